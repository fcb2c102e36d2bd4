"""Whether anything like Ray answers where a cluster is said to be: Ray itself waits minutes for a dead one.

The servers of Ray speak gRPC, and so HTTP/2. One that answers a client's first words in it is taken for Ray.
"""

import os
import socket
from urllib.parse import urlsplit

from hypsae_ray.cluster.ray_private import named_address
from hypsae_ray.errors import ConfigError

CONNECT_S, ANSWER_S = 4, 4
# RFC 9113, 3.4: what a client of HTTP/2 says first, with empty SETTINGS; those of the server answer it.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_ADVICE = "unset RAY_ADDRESS to start Ray on this machine"
_FRAME_HEAD, _TYPE, _SETTINGS = 9, 3, 4


def check_address() -> bool:
    """Return whether there is a cluster to join; else Ray is to start on this machine alone.

    Raises:
        ConfigError: none is where RAY_ADDRESS, or the last `ray start` on this machine, says.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    try:
        address = named_address(named)
    except ConnectionError:
        raise ConfigError(f"RAY_ADDRESS is {named}, but no Ray runs on this machine: {_ADVICE}") from None
    if address is None or address == "local":
        return False
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"RAY_ADDRESS ({address}) is where jobs are submitted to, for `ray job submit`; Ray itself is at "
            f"<head>:6379: {_ADVICE}"
        )
    if reason := silent(address):
        if named and named != "auto":
            raise ConfigError(f"no Ray cluster at RAY_ADDRESS ({address}): {reason}; start it, or {_ADVICE}")
        raise ConfigError(
            f"no Ray cluster at {address}, where `ray start` began one on this machine: {reason}; `ray stop` "
            "forgets it, or set RAY_ADDRESS=local to start Ray for this job alone"
        )
    return True


def silent(address: str) -> str:
    """Return why nothing that may be Ray answers at host:port or ray://host:port; nothing if it does."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        where = (parts.hostname or "", parts.port or 0)
    except ValueError:
        return "it is no host:port"
    try:
        with socket.create_connection(where, CONNECT_S) as connection:
            return "" if os.environ.get("RAY_USE_TLS", "0") != "0" else _greet(connection)
    except TimeoutError:
        return f"no connection within {CONNECT_S} s"
    except OSError as error:
        return str(error.strerror or error)


def _greet(connection: socket.socket) -> str:
    connection.settimeout(ANSWER_S)
    connection.sendall(_HELLO)
    try:
        answer = connection.recv(_FRAME_HEAD, socket.MSG_WAITALL)
    except TimeoutError:
        return f"something listens there, but does not answer within {ANSWER_S} s"
    is_settings = len(answer) == _FRAME_HEAD and answer[_TYPE] == _SETTINGS
    return "" if is_settings else "what listens there is no Ray"
