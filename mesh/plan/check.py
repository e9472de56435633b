"""What is wrong with one resource by itself, beyond what decoding sees: filters, schedules, channel templates. Pure.

Compiling reports the same; this is for who must know before whether a new version of a file may replace a good one.
"""

from __future__ import annotations

from mesh.plan.flows import own_problem
from mesh.plan.options import ScheduleCheck
from mesh.plan.triggers import filters_of
from mesh.resources.eventing import Trigger
from mesh.resources.flows import Parallel, Sequence
from mesh.resources.meta import Resource
from mesh.resources.problem import Problem
from mesh.resources.sources import PingSource


def own_problems(resource: Resource, check_schedule: ScheduleCheck) -> list[Problem]:
    """Errors that no other resource can mend, equal to those that compiling would report."""
    if isinstance(resource, Trigger) and resource.spec is not None:
        _, flaws = filters_of(resource.spec)
        return [resource.problem(message, path=path, hint=hint) for path, message, hint in flaws]
    if isinstance(resource, PingSource) and resource.spec is not None:
        bad = check_schedule(resource.spec.schedule, resource.spec.timezone)
        return [] if bad is None else [resource.problem(bad[1], path=f"spec.{bad[0]}")]
    if isinstance(resource, Sequence | Parallel):
        problem = own_problem(resource)
        return [] if problem is None else [problem]
    return []
