"""What `flightlog doctor` says, for a script."""

from __future__ import annotations


def doctor(mask_envs: bool = False) -> None:
    """Print versions, settings and places of the current store, what can be reached, and journals that are stuck.

    With `mask_envs`, values of settings that the environment gave are printed as ***. Passwords never are printed.
    """
    from flightlog.cli.doctor import examine, print_report  # noqa: PLC0415 - the command line's parts are not needed for anything else
    from flightlog.producer.context import context  # noqa: PLC0415 - as above

    print_report(examine(context.location.tracking_uri), masks=mask_envs)
