"""Profiles into requests: token ids, output lengths and due times, as arrays that every engine is given alike.

Every draw depends on one seed and on the request's index alone (see `harness.workloads.draws`): the content seed
decides the token ids, the lengths seed how many of them are taken, the schedule seed when open-loop requests fall due.
"""

from innerloop.harness.workloads.build import build, warmup
from innerloop.harness.workloads.context import check_context, longest_request
from innerloop.harness.workloads.workload import DAMAGE, Workload, load

__all__ = ["DAMAGE", "Workload", "build", "check_context", "load", "longest_request", "warmup"]
