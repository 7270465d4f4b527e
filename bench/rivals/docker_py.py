"""docker-py, as programs use it: a request a line on stdin, an answer a line on stdout, both JSON."""

import json
import sys
import time

import docker

client = docker.from_env()


def run(image, command, labels):
    container = client.containers.run(image, command, detach=True, network_mode="none", labels=labels)
    container.wait()
    output = container.logs().decode()
    container.remove()
    return output


def stats(ids):
    return [client.containers.get(id).stats(stream=False)["read"] for id in ids]


WORK = {"run": run, "stats": stats, "version": lambda: docker.__version__}

for line in sys.stdin:
    name, arguments = json.loads(line)
    began = time.perf_counter()
    try:
        answer = {"result": WORK[name](*arguments)}
    except Exception as error:
        answer = {"error": repr(error)}
    answer["ms"] = (time.perf_counter() - began) * 1000
    print(json.dumps(answer), flush=True)
