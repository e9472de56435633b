"""Locust users that POST CloudEvents to a broker: `pip install locust`, then

    locust -f loadtest/locustfile.py --headless -u 50 -r 50 -t 30s --host http://127.0.0.1:8080

LOADTEST_PATH names another broker than /default/default. Locust costs some 200 µs of CPU a request: it shows how many users are
served and how fast, while measure.py is what counts CPU per event.
"""

from __future__ import annotations

import itertools
import os

from locust import FastHttpUser, constant, task

PATH = os.environ.get("LOADTEST_PATH", "/default/default")
IDS = itertools.count()
BODY = b'{"pad":"' + b"x" * 1014 + b'"}'


class Producer(FastHttpUser):
    """Sends one event after another; anything but 202 is a failure."""

    wait_time = constant(0)

    @task
    def post(self) -> None:
        headers = {
            "ce-specversion": "1.0",
            "ce-id": f"{os.getpid()}-{next(IDS)}",
            "ce-source": "/loadtest/locust",
            "ce-type": "com.example.loadtest",
            "content-type": "application/json",
        }
        with self.client.post(PATH, data=BODY, headers=headers, catch_response=True) as answer:
            if answer.status_code != 202:
                answer.failure(f"{answer.status_code}: {answer.text}")
