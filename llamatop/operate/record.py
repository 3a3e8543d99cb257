"""Plans and results as plain values, for --json and for the audit log."""

from __future__ import annotations

from llamatop.model.plan import Plan, Step, StepResult


def plan_record(plan: Plan) -> dict[str, object]:
    """The plan with its exact commands and diffs; times are RFC 3339 UTC."""
    return {
        "action": plan.action,
        "targets": list(plan.targets),
        "made_at": plan.made_at.isoformat().replace("+00:00", "Z") if plan.made_at else None,
        "forced": plan.forced,
        "cuts_requests": plan.cuts_requests,
        "about": plan.about,
        "reason": plan.reason,
        "expects": [str(expectation) for expectation in plan.expects],
        "warnings": list(plan.warnings),
        "nothing": list(plan.nothing),
        "stays": list(plan.stays),
        "steps": [_step_record(number, step) for number, step in enumerate(plan.steps, 1)],
    }


def result_record(result: StepResult) -> dict[str, object]:
    """How one step stands."""
    return {
        "number": result.number,
        "kind": result.step.kind,
        "node": result.step.node,
        "title": result.step.title,
        "state": result.state,
        "seconds": round(result.seconds, 3),
        "progress": result.progress,
        "error": result.error,
        "members": [list(member) for member in result.members],
    }


def _step_record(number: int, step: Step) -> dict[str, object]:
    return {
        "number": number,
        "kind": step.kind,
        "node": step.node,
        "title": step.title,
        "worker": step.worker,
        "unit": step.unit,
        "commands": [list(command.argv) for command in step.commands],
        "diff": step.diff,
        "edits": [
            {
                "file": edit.file,
                "upstream": edit.upstream,
                "addresses": list(edit.addresses),
                "down": edit.down,
                "lines": [list(line) for line in edit.lines],
                "beside": edit.beside or None,
            }
            for edit in step.edits
        ],
        "batch": step.batch,
        "timeout_seconds": step.timeout_seconds,
    }
