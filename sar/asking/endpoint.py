"""One question to an OpenAI-compatible endpoint, and its answer as a list.

The openai client waits and tries again on 408, 409, 429 (as long as Retry-After says), 5xx,
timeouts and lost connections. The key comes from ``OPENAI_API_KEY`` alone and is taken out of
everything that an endpoint returns.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sar.asking.bounded import BoundedClient, TooLargeError
from sar.command_line.extras import extra
from sar.errors import ConfigError, EndpointError

with extra("novel"):
    import openai
    from pydantic import BaseModel, ConfigDict, ValidationError

KEY = "OPENAI_API_KEY"
_NO_KEY = "none"  # for local servers; the client insists on some text


class Part(BaseModel):
    """The schema of a part of an answer."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Form(Part):
    """The schema of an answer; a subclass has one field, a list."""


# What is asked for beside the messages; endpoints that reject it are asked for the next.
_EXTRAS: tuple[tuple[str, ...], ...] = (("response_format", "seed"), ("seed",), ())


@dataclass(frozen=True)
class Answer:
    """What an answer lists, and the tokens it took, if the endpoint says so."""

    items: list[Any]
    structured: bool
    """Whether the endpoint was given the schema."""
    input_tokens: int | None
    output_tokens: int | None


class UnusableAnswer(Exception):
    """An answer that came, but cannot be used; asking again may help."""


class TruncatedAnswer(UnusableAnswer):
    """An answer that was cut off at the endpoint's limit of tokens."""


class Endpoint:
    """A model behind an endpoint.

    Args:
        model: its name there.
        base_url: the endpoint; by default ``OPENAI_BASE_URL`` or OpenAI's own.
        timeout: seconds without a whole answer after which a request has failed.
        retries: how often a request that failed on its way is sent again.

    Raises:
        ConfigError: no key where one is needed, or one that cannot be a key.
    """

    def __init__(
        self, model: str, base_url: str | None = None, timeout: float = 120, retries: int = 6
    ) -> None:
        self.model = model
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self._key = os.environ.get(KEY, "").strip()
        if not self._key and base_url is None:
            raise ConfigError(
                f"The environment variable {KEY} is empty. Put the key there, or give --base-url "
                "for an endpoint that needs none."
            )
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"The text in {KEY} is not a key: expected printable ASCII.")
        try:
            if base_url is not None and urlsplit(base_url).scheme not in ("http", "https"):
                raise ValueError(f"{base_url} does not begin with http:// or https://")
            self._client = openai.OpenAI(
                api_key=self._key or _NO_KEY,
                base_url=base_url,
                timeout=timeout,
                max_retries=retries,
                http_client=BoundedClient(timeout),
            )
            self._host = urlsplit(str(self._client.base_url)).hostname
        except Exception as error:  # the client checks the address in its own ways
            raise ConfigError(
                f"--base-url cannot be used: {self._plain(error)}. Expected an address such as "
                "http://localhost:8000/v1."
            ) from None
        self._extras = 0

    def ask(self, messages: Sequence[dict[str, str]], seed: int, form: type[Form]) -> Answer:
        """The model's answer, which lists at least one thing.

        Raises:
            UnusableAnswer: the answer is malformed, cut off, refused, empty or off the schema.
            EndpointError: no answer, after all retries.
        """
        for extras in range(self._extras, len(_EXTRAS)):
            try:
                answer = self._send(messages, seed, form, _EXTRAS[extras])
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if extras + 1 == len(_EXTRAS):
                    raise EndpointError(
                        f"{self._host} rejects the request: {self._plain(error)}"
                    ) from None
                continue
            except UnusableAnswer:
                self._extras = extras  # the endpoint understood
                raise
            self._extras = extras
            return answer
        raise AssertionError("unreachable: the last request returns or raises")

    def _send(
        self,
        messages: Sequence[dict[str, str]],
        seed: int,
        form: type[Form],
        extras: tuple[str, ...],
    ) -> Answer:
        known = {"response_format": _schema(form), "seed": seed}
        try:
            reply: Any = self._client.chat.completions.create(
                model=self.model,
                messages=list(messages),
                **{key: known[key] for key in extras},  # type: ignore[call-overload]
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            raise
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise EndpointError(
                f"{self._host} refuses the key in {KEY}: {self._plain(error)}"
            ) from None
        except openai.NotFoundError as error:
            raise EndpointError(
                f"{self._host} knows no model {self.model!r}, or --base-url is wrong: "
                f"{self._plain(error)}"
            ) from None
        except openai.APIResponseValidationError as error:
            raise UnusableAnswer(f"malformed reply: {self._plain(error)}") from None
        except openai.OpenAIError as error:
            raise EndpointError(
                f"{self._host} gives no answer, retried {self._client.max_retries} times: "
                f"{self._plain(error)}"
            ) from None
        # A body that says it is JSON and is not, nests without end, or is too large.
        except (ValueError, RecursionError, TooLargeError) as error:
            raise UnusableAnswer(f"malformed reply: {self._plain(error)}") from None
        items = self._items(reply, form)
        usage = getattr(reply, "usage", None)
        return Answer(
            items,
            "response_format" in extras,
            getattr(usage, "prompt_tokens", None),
            getattr(usage, "completion_tokens", None),
        )

    def _items(self, reply: Any, form: type[Form]) -> list[Any]:
        try:
            choice = reply.choices[0]
            reason, refusal, text = (
                choice.finish_reason,
                getattr(choice.message, "refusal", None),
                choice.message.content,
            )
        except (AttributeError, IndexError, TypeError):
            raise UnusableAnswer("malformed reply: no message in it") from None
        if refusal or reason == "content_filter":
            raise UnusableAnswer(f"refused: {self._plain(refusal or reason)}")
        if reason == "length":
            raise TruncatedAnswer("cut off at the limit of tokens")
        if not isinstance(text, str) or not text.strip():
            raise UnusableAnswer("empty answer")
        text = self._without_key(text).rpartition("</think>")[2]
        # Without the schema models wrap the object into Markdown or a sentence.
        found = text[text.find("{") : text.rfind("}") + 1] if "{" in text else ""
        if not found:
            raise UnusableAnswer(f"malformed answer: no JSON object in {self._plain(text)!r}")
        try:
            ((what, items),) = form.model_validate_json(found).model_dump().items()
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            kind = "malformed" if problem["type"] == "json_invalid" else "off the schema"
            raise UnusableAnswer(
                f"{kind}: {self._plain(problem['msg'])} {place}".rstrip()
            ) from None
        if not items:
            raise UnusableAnswer(f"an empty list of {what}")
        cleaned: list[Any] = self._cleaned(items)  # JSON may have spelled the key with escapes
        return cleaned

    def _cleaned(self, value: Any) -> Any:
        """A tree of lists and objects without the key in its texts."""
        if isinstance(value, dict):
            return {name: self._cleaned(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._cleaned(inner) for inner in value]
        return self._without_key(value)

    def _plain(self, problem: object) -> str:
        """One line without the key."""
        return " ".join(self._without_key(str(problem)).split())[:300].rstrip(".")

    def _without_key(self, text: str) -> str:
        # Placeholders such as "x" for servers without keys are words of their own.
        return text.replace(self._key, "[key]") if len(self._key) >= 8 else text


def _schema(form: type[Form]) -> dict[str, Any]:
    described = {"name": form.__name__.lower(), "strict": True, "schema": form.model_json_schema()}
    return {"type": "json_schema", "json_schema": described}
