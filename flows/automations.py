"""What the server watches for by itself: the automations of `deployments/automations.yaml`, created or renewed."""

from __future__ import annotations

from pathlib import Path

import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from pydantic import TypeAdapter, ValidationError

from flows.alarm import BLOCK
from tasks.scan.errors import ServiceUnavailable

FILE = "automations.yaml"
PAYLOAD = """{
 "program": "segment-cohort", "flow": "{{ flow.name }}", "run": "{{ flow_run.id }}", "name": "{{ flow_run.name }}",
 "state": "Crashed", "why": "it sends no heartbeat",
 "began": "{{ (flow_run.start_time or flow_run.created).isoformat() }}",
 "ended": "{{ firing.triggered.isoformat() }}"
}"""
_ADAPTER = TypeAdapter(dict[str, list[AutomationCore]])


def register_automations(folder: Path) -> None:
    """The server has the automations of the file in `folder`, if there is one, each once; what was paused stays paused.

    A run that the server calls dead has nobody left to send the message: where there is a webhook block for it, the
    server does. Raises ServiceUnavailable when the file is not understood.
    """
    file = folder / FILE
    if not file.is_file():
        return
    try:
        wanted = _ADAPTER.validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))["automations"]
    except (ValidationError, yaml.YAMLError, KeyError) as error:
        raise ServiceUnavailable(f"'{file}' is not understood: {error}") from error
    with get_client(sync_client=True) as client:
        actions = _message(client)
        for one in wanted:
            told = one.model_copy(update={"actions": [*one.actions, *actions]})
            known = client.read_automations_by_name(one.name)
            if known:
                client.update_automation(known[0].id, told.model_copy(update={"enabled": known[0].enabled}))
            else:
                client.create_automation(told)


def _message(client: SyncPrefectClient) -> list[CallWebhook]:
    try:
        block = client.read_block_document_by_name(BLOCK, Webhook.get_block_type_slug())
    except ObjectNotFound:
        return []
    return [CallWebhook(block_document_id=block.id, payload=PAYLOAD)] if block.id else []
