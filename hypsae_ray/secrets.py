"""What a secret looks like in a config, a URI or a message.

Secrets belong into the environment. A config goes into run.json, the report and the arguments of actors, a
command line into the list of processes; so one that holds a secret is refused, and no message repeats it.
"""

import re
from collections.abc import Mapping
from typing import Any

# ann:pass-word@ after any scheme (but no port), or ann@ after http; pathlib makes one slash of two. Not the
# container in abfs://data@account, nor the word in gs://anonymous@bucket.
_USER = re.compile(r"""(https?://?)[^\s'"/:@]+@|(:/{1,2})[^\s'"/:@]*:(?!\d+[/?#])[^\s'"]*@""")
_NAME = r"(?:[\w.-]*[_.-])?(?:api_?key|token|secret|passw(?:or)?d|key|credentials?|sig|signature)"
_QUERY = re.compile(rf"""(?<=[?&])({_NAME}=)[^\s'"&#]+""", re.IGNORECASE)
_ADVICE = (
    "would be stored with the results; put it into the environment: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or a role, for a store; HF_TOKEN for models; the variable that key_env names for "
    "an endpoint"
)


def without_secrets(text: str) -> str:
    """Return a text with *** for passwords and keys in URIs.

    >>> without_secrets("s3://AKIA:abc/d@bucket/run, http://host:80/a@b and http://host/v1?api_key=abc&v=1")
    's3://***@bucket/run, http://host:80/a@b and http://host/v1?api_key=***&v=1'
    """
    return _QUERY.sub(r"\1***", _USER.sub(r"\1\2***@", text)) if ":/" in text else text


def find_secret(value: Any) -> str:
    """Return why a value of a config must not stand there, without the value itself; nothing if it may.

    >>> find_secret({"hf_token": "abc"}).partition(" would")[0], find_secret({"max_tokens": "8"})
    ('hf_token', '')
    """
    if isinstance(value, str):
        return f"a password or key in a URI {_ADVICE}" if without_secrets(value) != value else ""
    if isinstance(value, Mapping):
        named = (str(name) for name, inner in value.items() if isinstance(inner, str) and _is_secret(name))
        return next((f"{name} {_ADVICE}" for name in named), "") or find_secret(list(value.values()))
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(find_secret, value)), "")
    return ""


def _is_secret(name: object) -> bool:
    return re.fullmatch(_NAME, str(name), re.IGNORECASE) is not None
