"""Starts `moto` with a load balancer and the target groups of the test, and prints their ARNs as environment."""

from moto_api import client, serve

ec2 = client("ec2")
elb = client("elbv2")
image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
subnets = ec2.describe_subnets()["Subnets"][:2]
machines = ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2, SubnetId=subnets[0]["SubnetId"])["Instances"]


def group(name):
    made = elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=subnets[0]["VpcId"])
    return made["TargetGroups"][0]["TargetGroupArn"]


blue, green, empty = group("blue"), group("green"), group("empty")
for target, machine in zip((blue, green), machines):
    elb.register_targets(TargetGroupArn=target, Targets=[{"Id": machine["InstanceId"], "Port": 80}])
balancer = elb.create_load_balancer(Name="public", Subnets=[subnet["SubnetId"] for subnet in subnets])["LoadBalancers"][0]
forward = [{"Type": "forward", "ForwardConfig": {"TargetGroups": [
    {"TargetGroupArn": blue, "Weight": 1}, {"TargetGroupArn": green, "Weight": 0}],
    "TargetGroupStickinessConfig": {"Enabled": False}}}]


def listener(number, actions):
    made = elb.create_listener(LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=number, DefaultActions=actions)
    return made["Listeners"][0]["ListenerArn"]


third = [{"Type": "forward", "ForwardConfig": {"TargetGroups": [
    {"TargetGroupArn": arn, "Weight": 1} for arn in (blue, green, empty)]}}]
main = listener(80, forward)
fixed = listener(81, [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503", "ContentType": "text/plain"}}])
single = listener(82, [{"Type": "forward", "TargetGroupArn": blue}])
rule = elb.create_rule(ListenerArn=fixed, Priority=1, Actions=forward,
                       Conditions=[{"Field": "host-header", "Values": ["example.org"]}])["Rules"][0]["RuleArn"]

serve({
    "SWITCH_LISTENER": main, "SWITCH_BLUE": blue, "SWITCH_GREEN": green, "SWITCH_EMPTY": empty,
    "FIXED": fixed, "RULE": rule, "SINGLE": single, "THIRD": listener(83, third),
})
