"""The comparison must fail where it should: `python3 -m unittest discover --start-directory .ci`."""

import sys
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

sys.dont_write_bytecode = True
loader = SourceFileLoader("instructions", str(Path(__file__).parent / "instructions"))
instructions = module_from_spec(spec_from_loader(loader.name, loader))
loader.exec_module(instructions)


class Compare(unittest.TestCase):
    def check(self, baseline, counts, verdict, fails):
        rows = instructions.compare(baseline, counts)
        self.assertEqual([row[3] for row in rows], [verdict])
        self.assertEqual([instructions.failed(row) for row in rows], [fails])
        self.assertEqual(verdict in instructions.table(rows), True)

    def test_equal_counts_pass(self):
        self.check({"a": 1_000}, {"a": 1_000}, instructions.SAME, False)

    def test_4_percent_more_pass(self):
        self.check({"a": 1_000}, {"a": 1_040}, instructions.SAME, False)

    def test_just_5_percent_more_pass(self):
        self.check({"a": 1_000}, {"a": 1_050}, instructions.SAME, False)

    def test_6_percent_more_fail(self):
        self.check({"a": 1_000}, {"a": 1_060}, instructions.GREW, True)

    def test_6_percent_less_pass_and_are_named(self):
        self.check({"a": 1_000}, {"a": 940}, instructions.SHRANK, False)
        self.assertIn("shrank by more than 5 %: a", instructions.summary(instructions.compare({"a": 1_000}, {"a": 940})))

    def test_what_the_baseline_does_not_have_fails(self):
        self.check({}, {"a": 1_000}, instructions.NEW, True)

    def test_what_has_no_benchmark_any_more_fails(self):
        self.check({"a": 1_000}, {}, instructions.GONE, True)

    def test_one_that_fails_is_seen_among_others(self):
        rows = instructions.compare({"a": 100, "b": 100, "c": 100}, {"a": 90, "b": 106, "c": 100})
        self.assertEqual([row[0] for row in rows if instructions.failed(row)], ["b"])
        self.assertIn("--accept", instructions.summary(rows))

    def test_rows_come_by_name(self):
        rows = instructions.compare({"b": 1, "c": 1}, {"a": 1, "b": 1})
        self.assertEqual([row[0] for row in rows], ["a", "b", "c"])


if __name__ == "__main__":
    unittest.main()
