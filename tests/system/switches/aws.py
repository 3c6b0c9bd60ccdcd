"""Starts `moto` with the instances and the Elastic IPs of the test, prints their ids as environment, and goes on."""

import os
import socket
import threading

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="eu-central-1")

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()

api = f"http://127.0.0.1:{port}"
ec2 = boto3.client("ec2", endpoint_url=api)
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

for key, value in {
    "SWITCH_API": api, "SWITCH_ALLOCATION": public, "SWITCH_BLUE": blue, "SWITCH_GREEN": green, "SWITCH_OWN": own,
    "SWITCH_STOPPED": stopped, "SWITCH_GONE": "i-0123456789abcdef0", "SWITCH_WITHIN": "5", "SECOND": second,
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1",
}.items():
    print(f"{key}={value}")
print("up", flush=True)
threading.Event().wait()
