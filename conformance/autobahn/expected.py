"""Prints the result of a flawless peer, as the suite itself defines it.

Run by the suite's own Python 2.7, after the suite's version changed:

    .venv/suite/bin/python expected.py >expected-server.json
    .venv/suite/bin/python expected.py >expected-client.json

Every case is OK for both its behaviour and its close, but for the cases whose
code overrides whatever it observed with INFORMATIONAL.
"""

import inspect
import json

import autobahntestsuite
from autobahntestsuite.case import CaseBasename, Cases


def case_id(case):
    return case.__name__[len(CaseBasename):].replace("_", ".")


def behavior(case):
    verdict_code = inspect.getsource(case.onConnectionLost)
    return "INFORMATIONAL" if "Case.INFORMATIONAL" in verdict_code else "OK"


print("{")
print('"suite": %s,' % json.dumps(autobahntestsuite.version))
print('"cases": {')
print(",\n".join(
    '"%s": {"behavior": "%s", "behaviorClose": "%s"}' % (case_id(case), behavior(case), behavior(case))
    for case in Cases
))
print("}")
print("}")
