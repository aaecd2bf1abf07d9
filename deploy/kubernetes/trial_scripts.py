"""Python that a trial runs inside pods, where numpy is and the checkout is not."""

PATTERNS = """
import numpy as np
rng = np.random.default_rng(0)
labels = rng.integers(0, 10, 1000)
patterns = rng.integers(0, 256, (10, 8, 8)).repeat(2, 1).repeat(2, 2)
images = patterns[labels] + rng.normal(0, 60, (1000, 16, 16))
np.savez("patterns.npz", images=images.clip(0, 255).astype(np.uint8), labels=labels.astype(str))
"""
"""Ten blurred patterns with noise: enough to learn from, and nothing to download."""

POST = """
import base64, io, json, sys, urllib.request
import numpy as np
data = np.load("patterns.npz")
address, token, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def instance(number):
    buffer = io.BytesIO()
    np.save(buffer, data["images"][number % 1000])
    return {"value": base64.b64encode(buffer.getvalue()).decode(),
            "content_type": "application/x-npy", "label": str(data["labels"][number % 1000])}
body = json.dumps({"instances": [instance(first + each) for each in range(count)]}).encode()
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
request = urllib.request.Request(address + "/v1/instances", body, headers)
print(json.load(urllib.request.urlopen(request, timeout=30))["appended"])
"""
"""Sends instances: address, token, number of the first, count."""

ASK = """
import json, pathlib, sys, time, urllib.request
import numpy as np
address, mark = sys.argv[1], pathlib.Path(sys.argv[2])
image = np.load("patterns.npz")["images"][0]
tensor = {"name": "inputs", "datatype": "UINT8", "shape": [1, 1, 16, 16],
          "data": image.ravel().tolist()}
body = json.dumps({"inputs": [tensor]}).encode()
answers, failures, versions = 0, [], []
mark.touch()
while mark.exists():
    request = urllib.request.Request(address + "/v2/models/teacher/infer", body)
    try:
        answer = json.load(urllib.request.urlopen(request, timeout=10))
    except Exception as error:  # whatever it is, somebody's request got no answer
        failures.append(repr(error))
    else:
        answers += 1
        if answer["model_version"] not in versions:
            versions.append(answer["model_version"])
    time.sleep(0.02)
print(json.dumps({"answers": answers, "failures": failures, "versions": versions}))
"""
"""Asks by a new connection each time until a file is gone: address, file."""

STATUS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9464/status", timeout=5).read().decode())
"""

OUT_OF_MEMORY = """
echo 1000 >/proc/1/oom_score_adj
for each in $(seq 64); do
  python -c "import time; taken = bytearray(1 << 27); time.sleep(60)" &
done
wait
"""
"""Takes more memory than the container may have, by processes so small that the kernel kills the
daemon first: what it is asked to prefer counts less than size."""
