"""A comparison, and whether it meets the conditions of a gate: printed, and put into files for CI systems."""

from __future__ import annotations

from innerloop.harness.cli.errors import EXIT_OK
from innerloop.harness.cli.output import print_json
from innerloop.harness.experiments.conditions import EXIT, Rules, judge
from innerloop.harness.experiments.output import Output
from innerloop.harness.report.comparison import print_comparison
from innerloop.harness.report.gate import print_gate
from innerloop.harness.schema.comparison import Comparison
from innerloop.harness.store.atomic import write_text
from innerloop.harness.store.typed import document


def tell(found: Comparison, rules: Rules | None, output: Output) -> int:
    """Prints a comparison and judges it by the rules, if there are any; the exit code that they mean.

    Raises:
        OSError: a file cannot be written.
    """
    gate = None if rules is None else judge(found, rules)
    if output.markdown is not None:
        from innerloop.harness.report.markdown import markdown

        write_text(output.markdown, markdown(found, gate), contended=True)
    if output.junit is not None and gate is not None:
        from innerloop.harness.report.junit import junit

        write_text(output.junit, junit(gate), contended=True)
    if output.json:
        print_json(document(found if gate is None else gate))
    else:
        print_comparison(found)
        if gate is not None:
            print_gate(gate)
    return EXIT_OK if gate is None else EXIT[gate.outcome]
