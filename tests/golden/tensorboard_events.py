"""TensorBoard's own event file, and ours read by TensorBoard.

pip install tensorboard numpy

    python tests/golden/tensorboard_events.py                 writes events.tfevents: scalars `loss` and `rankme` at steps 0, 100,
                                                       200, 300, by TensorBoard's record writer and protobufs
    python tests/golden/tensorboard_events.py RUN_FOLDER      reads a run's event file with EventAccumulator and compares every scalar
                                                       of every step with the run's metrics.jsonl
"""

import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def write(path):
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for step in range(4):
            values = [
                Summary.Value(tag="loss", simple_value=1.5 / (step + 1)),
                Summary.Value(tag="rankme", simple_value=float(step)),
            ]
            event = Event(wall_time=2.0 + step, step=step * 100, summary=Summary(value=values))
            writer.write(event.SerializeToString())
        writer.flush()


def compare(run):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = {
        (name, line["step"]): value
        for line in lines
        for name, value in line.items()
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    found = {(tag, scalar.step): scalar.value for tag in events.Tags()["scalars"] for scalar in events.Scalars(tag)}
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())[:10]
    for key, value in expected.items():
        assert abs(found[key] - value) <= 1e-6 * max(abs(value), 1e-30), (key, found[key], value)
    print(f"{len(found)} scalars of {len(lines)} steps are equal")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        compare(pathlib.Path(sys.argv[1]))
    else:
        write(pathlib.Path(__file__).parent / "events.tfevents")
