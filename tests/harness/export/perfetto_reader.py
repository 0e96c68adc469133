"""A Perfetto trace read back with the protocol buffers of the `perfetto` package."""

from __future__ import annotations

import itertools
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

BEGIN, END, COUNTER = TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END, TrackEvent.TYPE_COUNTER


class Read:
    """A trace as a reader sees it: slices by track, as (begin, end, depth, name, facts), and counters."""

    def __init__(self, raw: bytes) -> None:
        trace = Trace()
        trace.ParseFromString(raw)
        names: dict[int, str] = {}
        keys: dict[int, str] = {}
        self.tracks: dict[int, str] = {}
        self.parents: dict[int, int] = {}
        self.units: dict[int, str] = {}
        self.slices: dict[int, list[Any]] = {}
        self.counters: dict[int, list[Any]] = {}
        open_: dict[int, list[Any]] = {}
        assert trace.packet[0].sequence_flags == 1
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id == 1
            for one in packet.interned_data.event_names:
                names[one.iid] = one.name
            for one in packet.interned_data.debug_annotation_names:
                keys[one.iid] = one.name
            if packet.HasField("track_descriptor"):
                track = packet.track_descriptor
                assert track.uuid not in self.tracks
                self.tracks[track.uuid], self.parents[track.uuid] = track.name, track.parent_uuid
                if track.HasField("counter"):
                    self.units[track.uuid] = track.counter.unit_name
            if not packet.HasField("track_event"):
                continue
            event, time = packet.track_event, packet.timestamp
            stack = open_.setdefault(event.track_uuid, [])
            assert event.track_uuid in self.tracks
            if event.type == BEGIN:
                facts = {keys[a.name_iid]: self.value(a) for a in event.debug_annotations}
                stack.append((time, names.get(event.name_iid) or event.name, facts))
            elif event.type == END:
                begin, name, facts = stack.pop()
                self.slices.setdefault(event.track_uuid, []).append((begin, time, len(stack), name, facts))
            else:
                assert event.type == COUNTER
                self.counters.setdefault(event.track_uuid, []).append((time, event.double_counter_value))
        assert not any(open_.values())  # every slice was closed

    @staticmethod
    def value(annotation):
        return getattr(annotation, annotation.WhichOneof("value"))

    def named(self, name, what):
        return [one for uuid, found in what.items() if self.tracks[uuid] == name for one in found]

    def below(self, name):
        """All slices of the tracks whose parent has that name."""
        inside = [uuid for uuid, parent in self.parents.items() if self.tracks.get(parent) == name]
        return {uuid: self.slices[uuid] for uuid in inside if uuid in self.slices}

    def check_nesting(self):
        """Slices of a track never overlap at a depth, lie within those above them, and do not go back in time."""
        for found in self.slices.values():
            for depth in {one[2] for one in found}:
                level = sorted(one[:2] for one in found if one[2] == depth)
                assert all(begin <= end for begin, end in level)
                assert all(a[1] <= b[0] for a, b in itertools.pairwise(level))
                if depth:
                    above = [one[:2] for one in found if one[2] == depth - 1]
                    assert all(any(a <= begin and end <= b for a, b in above) for begin, end in level)
        for found in self.counters.values():
            assert [time for time, _ in found] == sorted(time for time, _ in found)
