"""Starts `moto` with the instances and the Elastic IPs of the test, prints their ids as environment, and goes on."""

from moto_api import client, serve

ec2 = client("ec2")
image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
started = ec2.run_instances(ImageId=image, MinCount=4, MaxCount=4, SubnetId=subnet)["Instances"]
blue, green, own, stopped = (instance["InstanceId"] for instance in started)
ec2.stop_instances(InstanceIds=[stopped])
public = ec2.allocate_address(Domain="vpc")["AllocationId"]
other = ec2.allocate_address(Domain="vpc")["AllocationId"]
ec2.associate_address(AllocationId=other, InstanceId=own)
interface = started[2]["NetworkInterfaces"][0]
network, last = interface["PrivateIpAddress"].rsplit(".", 1)
second = f"{network}.{int(last) % 200 + 10}"
ec2.assign_private_ip_addresses(NetworkInterfaceId=interface["NetworkInterfaceId"], PrivateIpAddresses=[second])

serve({
    "SWITCH_ALLOCATION": public, "SWITCH_BLUE": blue, "SWITCH_GREEN": green, "SWITCH_OWN": own,
    "SWITCH_STOPPED": stopped, "SWITCH_GONE": "i-0123456789abcdef0", "SECOND": second,
})
