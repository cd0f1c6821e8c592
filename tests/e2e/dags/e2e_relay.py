"""DAGs for tests of the relay: one that looks at its network, one whose tasks ask the execution API something each second."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from airflow.sdk import Variable, dag, get_current_context, task


@dag(schedule=None, catchup=False, params={"direct": ""})
def e2e_relay():
    @task
    def look():
        try:
            urllib.request.urlopen(get_current_context()["params"]["direct"], timeout=5)
        except urllib.error.HTTPError as error:
            raise AssertionError("the execution API is reached without the relay") from error
        except OSError as error:
            print(f"as it should be: {error}")
        return {"large": "x" * 1_000_000}

    @task(executor_config={"modal": {"gpu": "A10G"}})
    def on_gpu(found):
        assert len(found["large"]) == 1_000_000

    on_gpu(look())


@dag(schedule=None, catchup=False)
def e2e_relay_lost():
    @task
    def ask(number):
        for asked in range(20):
            Variable.get(f"nothing-{number}-{asked}", default=None)
            time.sleep(1)
        return number

    ask.expand(number=[1, 2, 3])


e2e_relay()
e2e_relay_lost()
