"""What the generator cannot know: ids that exist, and which of them must outlive the run.

The choice is made by the case's own content, so that a case replayed is the same case.
"""

import json
import os
import urllib.request
import zlib

import schemathesis

WORLD = json.loads(os.environ["BATON_WORLD"])
# Everything hangs on these: other workspaces are patched, re-registered and deleted.
LASTING = [WORLD[name] for name in ("root", "caller", "target", "scratch")]
RESHAPING = [("PATCH", "/workspaces/{id}"), ("POST", "/registry/register")]


def digest(case):
    content = [case.method, case.path, case.path_parameters, case.query, case.body]
    return zlib.crc32(json.dumps(content, default=repr, sort_keys=True).encode())


def pick(values, number):
    return values[number % len(values)]


def victim():
    """A workspace that nobody will miss."""
    request = urllib.request.Request(
        WORLD["base"] + "/workspaces",
        data=b'{"name":"victim"}',
        headers={"Authorization": "Bearer " + WORLD["admin"]},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["id"]


def may_reshape(case):
    return (case.method.upper(), case.path) in RESHAPING and WORLD["role"] == "admin"


def put_path_ids(case, number):
    path = case.path_parameters
    if not path:
        return
    if "id" in path and number % 8 != 0:
        path["id"] = WORLD[pick(["caller", "caller", "caller", "target", "root", "scratch", "gone"], number >> 3)]
    if "caller" in path and number % 4 != 0:
        path["caller"] = WORLD["caller"]
    if "delegation_id" in path and number % 3 != 0:
        path["delegation_id"] = pick(WORLD["delegations"], number >> 6)
    if "token_id" in path and (number % 3 != 0 or path["token_id"] == WORLD["token_id"]):
        path["token_id"] = pick(WORLD["spare_tokens"], number >> 6)
    if "webhook_id" in path and number % 3 != 0:
        path["webhook_id"] = pick(WORLD["webhooks"], number >> 6)
    if (case.method.upper(), case.path) == ("DELETE", "/workspaces/{id}") and path.get("id") in LASTING:
        path["id"] = victim() if number % 4 == 0 and WORLD["role"] == "admin" else WORLD["gone"]
    if case.method.upper() == "DELETE" and path.get("id") == WORLD["gone"] and case.query:
        # Removed, and to be known as removed until the end.
        case.query.pop("purge", None)
    # What was seen in answers may have come back as an id.
    if path.get("id") in LASTING and may_reshape(case):
        path["id"] = WORLD["scratch"]


def put_query_ids(case, number):
    query = case.query
    if not query:
        return
    for name, known in (("since_id", "rows"), ("before", "delegations")):
        if name in query and number % 2 == 0:
            query[name] = pick(WORLD[known], number >> 4)
    if case.path == "/workspaces/{id}/inbox" and str(query.get("wait", "")).lstrip("0").isdigit():
        # A long wait is no finding; `check.py` waits once.
        query["wait"] = 0


def put_body_ids(case, number):
    body = case.body
    if not isinstance(body, dict) or number % 8 == 0:
        return
    workspaces = [WORLD[name] for name in ("caller", "caller", "target", "scratch", "gone")]
    for name, known in (
        ("target_id", [WORLD["target"], WORLD["target"], WORLD["scratch"], WORLD["caller"]]),
        ("caller_id", workspaces),
        ("source_id", workspaces),
        ("workspace_id", workspaces),
        ("id", workspaces),
        ("parent_id", [WORLD["root"], WORLD["scratch"], WORLD["gone"]]),
        ("url", [WORLD["agent"], WORLD["agent"], "http://10.0.0.1/", "http://127.0.0.1:1/"]),
    ):
        if isinstance(body.get(name), str):
            body[name] = pick(known, number >> 5)
    if body.get("id") in LASTING and may_reshape(case):
        body["id"] = WORLD["scratch"]


@schemathesis.hook
def before_call(context, case, kwargs):
    number = digest(case)
    put_path_ids(case, number)
    put_query_ids(case, number)
    put_body_ids(case, number)


@schemathesis.check
def says_when_to_come_back(context, response, case):
    if response.status_code in (429, 503):
        assert "retry-after" in response.headers, f"{response.status_code} without Retry-After"
