"""What the slots of one llama-server tell of its tokens between two reads.

A task that is there at both reads gives its tokens exactly. A task that ended in between leaves a
tail, found, best first, from: the context that its idle slot still holds; its limit, where the
interval had that many decode steps left; the steps themselves. Every generating slot advances one
token a step, so a slot that kept its task counts the interval's steps; where none did, task ids
do (llama-server draws one id for every step), and then the pace of the last intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf

from llamatop.collect.rates_leftovers import cleared, holds_leftovers
from llamatop.collect.rates_lengths import Lengths
from llamatop.collect.rates_progress import Progress, prompt_gain
from llamatop.model.observed import Slot

_MEMORY = 0.95
_PACE_MEMORY = 0.7
_FASTER = 1.5
_FEW_STARTS, _SHORT_REST = 0.5, 10.0
_SHORTER = 0.5
_IDS_BESIDE_STEPS = 12

# A slot at the read before (None where it is new) and now, its tokens then and now, and whether
# it is at the same task. None stands for one that rests: idle, and the very same as before.
Pair = tuple[Slot | None, Slot, int, int, bool] | None


class SlotLedger:
    """Follows the slots of one process from read to read."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._shown = {slot.id: slot for slot in slots}
        slots = [cleared(slot) if holds_leftovers(None, slot, None) else slot for slot in slots]
        self._before = {slot.id: slot for slot in slots}
        self._counts = {slot.id: _generated(slot) for slot in slots if slot.busy}
        # generation tokens of the tasks that ran at the last read
        self.in_flight = sum(self._counts.values())
        self._finals: dict[int, int] = {}
        self._clock: float | None = _clock(slots)
        self._pace: float | None = None
        self._saturated = all(slot.busy for slot in slots)
        self._queueing = False
        self._witnessed = False
        self._lengths = Lengths()
        self._starts, self._rest = _FEW_STARTS, _FEW_STARTS * _SHORT_REST
        self._early_ends = 0.0
        self._steps_at_risk = 0.0

    def advance(self, slots: Sequence[Slot], seconds: float, reads: int) -> Progress:
        """Take the next read, `seconds` after the one before; `reads` of ours drew a task id."""
        slots = self._without_leftovers(slots)
        known, counts = self._before, self._counts
        pairs: list[Pair] = []
        kept: list[int] = []
        made_by: dict[int, int] = {}
        shown: int | None = None
        certain = prompt = in_flight = 0
        saturated = True
        for now in slots:
            number = now.id
            before = known.get(number)
            busy, task = now.busy, now.task_id
            if busy:
                made = now.generated_tokens or 0
                if made < 0:
                    made = 0
            elif before is now and _rests(now):
                saturated = False
                pairs.append(None)
                continue
            else:
                saturated = False
                made = 0
            began, same = 0, False
            done, known_done = now.prompt_tokens_processed, None
            if before is not None:
                began = counts.get(number, 0)
                if busy and before.busy:
                    was = before.task_id
                    if was is None or task is None:
                        same = made >= began
                    elif was == task:
                        same, known_done = True, before.prompt_tokens_processed
            pairs.append((before, now, began, made, same))
            made_by[number] = made
            in_flight += made
            if made and task and (shown is None or task + made > shown):
                shown = task + made
            gain = made - began if same else made
            if gain > 0:
                certain += gain
            if same and gain >= 0 < began:
                kept.append(gain)
            if done and done != known_done:
                prompt += prompt_gain(before, now)
        saturated_before, self._saturated = self._saturated, saturated
        steps = self._steps(shown, kept, pairs, seconds, reads)
        self._queueing = saturated and saturated_before
        self._clock = self._tick(shown, reads + (steps or 0.0))
        lost = spread = longest = 0.0
        for pair in pairs:
            if pair is None:
                self._rest += steps or 0.0
                continue
            before, now, began, _, same = pair
            if same or before is None:
                continue
            tail, doubt = self._between(before, now, steps)
            lost += tail
            spread += doubt
            if before.busy or before.task_id != now.task_id:
                longest = max(longest, began + tail)
        self._steps_at_risk = self._steps_at_risk * _MEMORY + certain + lost
        self._early_ends *= _MEMORY
        self._starts *= _MEMORY
        self._rest *= _MEMORY
        # what is shown is what is, but for what an older task left
        self._before = {slot.id: slot for slot in slots} if self._finals else self._shown
        self._counts, self.in_flight = made_by, in_flight
        return Progress(certain + lost, certain, spread, longest, in_flight, prompt)

    def _without_leftovers(self, slots: Sequence[Slot]) -> Sequence[Slot]:
        shown, before = self._shown, self._before
        self._shown = now_shown = {}
        self._finals = finals = {}
        doubtful = []
        for slot in slots:
            number, made = slot.id, slot.generated_tokens
            now_shown[number] = slot
            if made and slot.busy:
                was = shown.get(number)
                # What an older task left stands still.
                if (
                    was is None
                    or was.task_id != slot.task_id
                    or not was.busy
                    or not 0 < (was.generated_tokens or 0) < made
                ):
                    doubtful.append(slot)
        if not doubtful:
            return slots
        steps = self._most_steps(slots)
        for slot in doubtful:
            if holds_leftovers(before.get(slot.id), slot, steps):
                finals[slot.id] = _generated(slot)
        return [cleared(slot) if slot.id in finals else slot for slot in slots] if finals else slots

    def _most_steps(self, slots: Sequence[Slot]) -> int | None:
        return max(
            [
                _generated(slot) - began
                for slot in slots
                if (began := self._counts.get(slot.id))
                and self._before[slot.id].task_id == slot.task_id
            ],
            default=None,
        )

    def _steps(
        self,
        clock: float | None,
        kept: list[int],
        pairs: list[Pair],
        seconds: float,
        reads: int,
    ) -> float | None:
        """Tokens that a slot busy for the whole interval generated; `kept` are those of tasks."""
        # a prompt that was being processed ends with a step that gives the first token
        kept = kept or [
            pair[3] - pair[2] for pair in pairs if pair and pair[4] and pair[3] > pair[2]
        ]
        self._witnessed = bool(kept)
        if kept:
            steps: float = _median(kept)
        else:
            return self._steps_without_witness(clock, pairs, seconds, reads)
        if seconds > 0:
            pace = steps / seconds
            if self._pace is None:
                self._pace = pace
            else:
                self._pace += (1 - _PACE_MEMORY) * (pace - self._pace)
        return steps

    def _steps_without_witness(
        self,
        clock: float | None,
        pairs: list[Pair],
        seconds: float,
        reads: int,
    ) -> float | None:
        moved = [pair for pair in pairs if pair is not None]
        seen = max([_seen_steps(*pair) for pair in moved], default=0)
        paced = None if self._pace is None else self._pace * seconds
        if clock is None or self._clock is None:
            return None if paced is None else max(paced, seen)
        fresh = sum(before is None or before.task_id != now.task_id for before, now, *_ in moved)
        steps = max(clock - self._clock - fresh - reads, 0.0)
        if paced is not None:
            # ids of tasks that waited long say nothing of now
            steps = paced if steps < paced / 2 and self._saturated else min(steps, paced * _FASTER)
        return max(steps, seen)

    def _tick(self, shown: float | None, passed: float) -> float | None:
        """The clock now: where all slots are taken, ids shown may be of tasks that waited."""
        if self._clock is None:
            return shown
        if shown is None or (self._queueing and shown < self._clock + passed):
            return self._clock + passed
        return shown

    def _between(self, before: Slot, now: Slot, steps: float | None) -> tuple[float, float]:
        """Tokens that one slot made between the reads and that no longer show, and the doubt."""
        if not now.busy and before.task_id == now.task_id and not before.busy:
            self._rest += steps or 0.0
            return 0.0, 0.0
        room = None if steps is None else max(steps - max(_generated(now), now.busy), 0.0)
        tail = doubt = 0.0
        if before.busy:
            tail, doubt = self._tail(before, now, room)
            self._lengths.add(_generated(before) + tail, steps)
            if not now.busy and before.task_id == now.task_id:
                self._rest += max((room or tail) - tail, 0.0)
                return tail, doubt
        if room is None or self._lengths.mean is None:
            return tail, doubt
        whole, unsure = self._whole_tasks(now, room - tail)
        return tail + whole, doubt + unsure

    def _whole_tasks(self, now: Slot, room: float) -> tuple[float, float]:
        """Tokens of tasks that began and ended between the reads in `room` steps, and the doubt.

        The slot was idle at both ends of the room. An idle slot starts a task at a steady rate:
        one task of a length within the room is weighed against none at all.
        """
        shortest, mean = self._lengths.shortest, self._lengths.mean or 0.0
        if not now.busy:
            # its last task is not the one that was there: at least one ran
            if now.prompt_tokens and now.prompt_tokens_processed:
                prompt = now.prompt_tokens_processed + (now.prompt_tokens_cached or 0)
                likely = min(max(now.prompt_tokens - prompt + 1.0, 0.0), room)
                return likely, likely / 4
            likely = min(room, mean, (shortest + room) / 2, now.prompt_tokens or room)
            return likely, likely / 2
        spare = room - shortest * _SHORTER
        waited = self._waited(now)
        if waited and spare > 0:
            return room, min(room, mean) / 4
        if spare <= 0 or mean <= 0:
            self._starts += not waited
            self._rest += 0.0 if waited else max(room, 0.0)
            return 0.0, 0.0
        rate = min(self._starts / self._rest, 1.0)
        one = (1 - exp(-rate * spare) * (1 + rate * spare)) / (rate * 2 * mean)
        chance = one / (one + exp(-rate * room))
        tokens = room - min(2 / rate, spare * 2 / 3)
        self._starts += 1 + chance
        self._rest += room - chance * tokens
        return chance * tokens, min(chance * tokens, (1 - chance) * tokens + 2 / rate, mean)

    def _waited(self, slot: Slot) -> bool:
        """Whether the task was deferred, so that no slot was idle before it started."""
        if self._clock is None or slot.task_id is None or not self._queueing:
            return False
        return self._clock - slot.task_id - _generated(slot) > _IDS_BESIDE_STEPS

    def _tail(self, before: Slot, now: Slot, room: float | None) -> tuple[float, float]:
        """Tokens that the task in `before` made until it ended, and the doubt."""
        limit = before.remaining_tokens
        if limit is not None and limit < 0:
            # some builds' word for none
            limit = None
        exact = _tail_in_context(before, now)
        if now.id in self._finals and self._finals[now.id] >= _generated(before):
            exact = self._finals[now.id] - _generated(before)
        most = min(room + 2 if room is not None else inf, limit if limit is not None else inf)
        if exact is not None and exact <= most:
            self._early_ends += limit is not None and exact < limit
            return float(exact), 0.0
        if limit is not None and (room is None or limit <= room + 2):
            early = 1 - (1 - self._hazard()) ** limit
            return limit * (1 - early / 2), early * limit / 2
        if room is None:
            return 0.0, 0.0
        if limit is not None:
            self._early_ends += 1
        if self._saturated:
            return room, min(room / 4, 2.0) if self._witnessed else room / 4
        return room / 2, room / 2

    def _hazard(self) -> float:
        """The chance that a task ends by itself at a step, as seen lately."""
        if self._steps_at_risk <= 0:
            return 0.0
        return min(self._early_ends / (self._steps_at_risk), 1.0)


def _rests(slot: Slot) -> bool:
    """Whether a slot that shows the same as before says nothing at all."""
    if slot.busy or slot.generated_tokens:
        return False
    return slot.task_id is not None or not slot.prompt_tokens_processed


def _generated(slot: Slot) -> int:
    if not slot.busy:
        return 0
    made = slot.generated_tokens
    return made if made is not None and made > 0 else 0


def _median(gains: list[int]) -> float:
    gains.sort()
    half = len(gains) // 2
    return gains[half] if len(gains) % 2 else (gains[half - 1] + gains[half]) / 2


def _tail_in_context(before: Slot, now: Slot) -> int | None:
    """The tail of a task whose slot is idle since and still holds its context.

    The context is the prompt (processed and cached) and all generated tokens but the last.
    """
    if now.busy or before.task_id is None or before.task_id != now.task_id:
        return None
    if not before.generated_tokens or now.prompt_tokens is None:
        return None
    if before.prompt_tokens_processed is None or before.prompt_tokens_cached is None:
        return None
    prompt = before.prompt_tokens_processed + before.prompt_tokens_cached
    tail = now.prompt_tokens - prompt + 1 - before.generated_tokens
    return tail if tail >= 0 else None


def _seen_steps(before: Slot | None, now: Slot, began: int, made: int, same: bool) -> int:
    """Steps that the interval must have had for one slot to come to where it is."""
    if before is not None and not now.busy:
        return _tail_in_context(before, now) or 0
    return made - began if same else made


def _clock(slots: Sequence[Slot]) -> float | None:
    """About the next task id: ids go up by one a step, and a task draws its own at its start."""
    ids = [slot.task_id + made for slot in slots if slot.task_id and (made := _generated(slot))]
    return max(ids) if ids else None
