"""Holds configurations to the schema: which of the examples it refuses, and which of some lines."""

import json
import sys
from pathlib import Path

import jsonschema
import yaml

schema = json.loads(Path(sys.argv[1]).read_text())
validator = jsonschema.validators.validator_for(schema)(schema)
validator.check_schema(schema)


def refused(text):
    return [error.message[:200] for error in validator.iter_errors(yaml.safe_load(text))]


for name in sys.argv[2:]:
    text = Path(name).read_text()
    content = yaml.safe_load(text)
    if isinstance(content, dict) and {"sources", "sinks"} & set(content):
        print(json.dumps({"name": name, "refused": refused(text)}))
FINE = [
    "sources: {w: {type: http, max_connections: '${N:-5}'}}",
    "transforms: {r: {type: route, inputs: [a], failed: 'status:error'}}",
    "sinks: {p: {type: postgres, inputs: [a], url: x, table: t, defaults: {status_code: 0, success: true}}}",
    "limits: {memory: '${M:-256 MiB}'}",
    "api: {enabled: '${E:-true}'}",
    "log: {level: '${L:-info}'}",
]
WRONG = [
    "sources: {w: {type: http, adress: x}}",
    "sources: {w: {type: '${T}'}}",
    "sinks: {b: {type: blackhole, inputs: [w], batch: {age: five}}}",
    "log: {level: loud}",
]
for text, is_fine in [*((text, True) for text in FINE), *((text, False) for text in WRONG)]:
    if bool(refused(text)) == is_fine:
        print(json.dumps({"name": text, "refused": [f"is_fine should be {is_fine}"]}))
