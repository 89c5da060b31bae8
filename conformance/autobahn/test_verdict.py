"""The comparison must fail where it should: `python3 -m unittest` in this folder."""

import json
import unittest
from pathlib import Path

import verdict

HERE = Path(__file__).parent


def case(behavior, close=None):
    return {"behavior": behavior, "behaviorClose": close or behavior}


class Verdict(unittest.TestCase):
    def check(self, expected, observed, differing):
        found = verdict.differences(expected, observed)
        self.assertEqual([(one.case, one.observed) for one in found], differing)

    def test_equal_results_do_not_differ(self):
        self.check({"1.1.1": case("OK")}, {"1.1.1": case("OK")}, [])

    def test_a_non_strict_case_differs(self):
        self.check({"3.2": case("OK")}, {"3.2": case("NON-STRICT", "OK")}, [("3.2", ("NON-STRICT", "OK"))])

    def test_a_wrong_close_code_differs(self):
        self.check({"7.1.5": case("OK")}, {"7.1.5": case("OK", "WRONG CODE")}, [("7.1.5", ("OK", "WRONG CODE"))])

    def test_a_case_better_than_expected_differs(self):
        self.check({"7.1.6": case("INFORMATIONAL")}, {"7.1.6": case("OK")}, [("7.1.6", ("OK", "OK"))])

    def test_a_case_that_did_not_run_differs(self):
        self.check({"9.1.1": case("OK")}, {}, [("9.1.1", verdict.NOT_RUN)])

    def test_a_case_that_nobody_expected_differs(self):
        self.check({}, {"14.1.1": case("OK")}, [("14.1.1", ("OK", "OK"))])

    def test_differences_come_in_the_order_of_the_suite(self):
        expected = {name: case("OK") for name in ("10.1.1", "9.1.10", "9.1.2")}
        self.check(expected, {}, [(name, verdict.NOT_RUN) for name in ("9.1.2", "9.1.10", "10.1.1")])

    def test_a_pattern_selects_its_group_and_no_other(self):
        cases = {name: case("OK") for name in ("1.1.1", "10.1.1", "12.1.1")}
        self.assertEqual(list(verdict.select(cases, ["1.*"])), ["1.1.1"])

    def test_every_difference_is_counted_in_the_table(self):
        expected = {"1.1.1": case("OK"), "1.1.2": case("OK")}
        found = verdict.differences(expected, {"1.1.1": case("OK")})
        self.assertEqual(verdict.table(expected, found).splitlines()[1].split(), ["1.*", "framing", "2", "1"])


class CommittedResults(unittest.TestCase):
    def test_all_cases_are_ok_but_those_the_suite_calls_informational(self):
        for role in ("server", "client"):
            cases = json.loads((HERE / f"expected-{role}.json").read_text())["cases"]
            self.assertEqual(len(cases), 517)
            other = {name for name, found in cases.items() if verdict.behaviors(found, None) != ("OK", "OK")}
            self.assertEqual(other, {"7.1.6", "7.13.1", "7.13.2"})


if __name__ == "__main__":
    unittest.main()
