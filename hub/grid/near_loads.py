"""Lanes as people see them: with those of their jobs that nodes took by lanes of their own."""

from collections import Counter
from collections.abc import Iterable, Mapping

from common.records.grid import NodeRecord
from common.streams.jobs import LaneName
from common.streams.queues import LaneLoad


def with_near(loads: Mapping[LaneName, LaneLoad], nodes: Iterable[NodeRecord]) -> dict[LaneName, LaneLoad]:
    """These loads, each with the jobs of the lane that nodes say they run and that lie in their own lanes.

    A job that is set aside and not taken yet is in no load for the moment that it waits so.
    """
    near = Counter((told.get("lane"), told.get("model")) for node in nodes for told in node.running if told.get("near"))
    return {
        name: load._replace(running=load.running + near[name.lane.value, name.model]) for name, load in loads.items()
    }
