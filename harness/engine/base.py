"""The starting model of a run, as a folder like any other: safetensors in fp32, a chat template, a pad token of its own."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi, ResolvedRevision
from huggingface_hub.utils.tqdm import enable_progress_bars
from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    TokenizersBackend,
)
from transformers.utils import find_adapter_config_file

from ..components import Compute, TinyBase
from ..errors import StageError, UsageError
from ..package_files import PACKAGE, package_file
from .cache import cache_name
from .chat import end_of_turn
from .models import UNREADABLE, brings_code, first_line, quiet, save_model, tokenizer_of, use_threads, with_all_weights

PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|PAD_TOKEN|>")
"""Special tokens that exist for padding; the first is added to a vocabulary that has none."""

EOS = "<|eos|>"

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|' + message['role'] + '|>\n' + message['content'] }}
{%- if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}
{{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""
"""The template of a base that has none: `<|role|>`, a newline, the text; an answer ends with EOS; then a newline."""


def build_base(
    spec: str | Mapping[str, Any],
    texts: Iterable[str],
    output: Path,
    compute: Compute,
    seed: int,
) -> dict[str, Any]:
    """Write the starting model that `spec` names into the folder `output`.

    `spec` is a Hub id, optionally with `@revision`; a local folder or GGUF file; `package://PACKAGE/path/file.gguf`, a file
    inside an installed package; or a mapping, the options of `TinyBase`, whose vocabulary is trained on `texts`. An adapter is
    merged into the model that it names. A base that has a chat template keeps it. Returns what is to be known of it: `commit`
    that a Hub id stood for, and whether `template_added`. Raises UsageError.
    """
    use_threads(compute)
    if isinstance(spec, str):
        model, tokenizer, commit = _open(spec, compute.trust_remote_code)
    else:
        commit = None
        model, tokenizer = _tiny(TinyBase.model_validate(dict(spec)), texts, seed)
    try:
        cache_name(model)
    except StageError as error:
        raise UsageError(f"base {spec}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise UsageError(f"base {spec}: its tokenizer has no EOS token, so no answer could end; set eos_token")
    _ensure_pad(model, tokenizer)
    if added := not tokenizer.chat_template:
        begins = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        tokenizer.chat_template = ("{{- bos_token }}\n" if begins else "") + CHAT_TEMPLATE
    _plain_generation_config(model, tokenizer)
    output.mkdir(parents=True, exist_ok=True)
    save_model(model, tokenizer, output)
    return ({"commit": commit} if commit else {}) | ({"template_added": True} if added else {})


def _open(spec: str, trust_remote_code: bool) -> tuple[Any, Any, str | None]:
    source, options = _locate(spec)
    trust = {"trust_remote_code": trust_remote_code}
    try:
        with quiet():
            enable_progress_bars()  # of downloads, on a terminal
            if "gguf_file" in options:
                model, tokenizer = _unpacked(spec, source, options)
            elif find_adapter_config_file(source, **options):
                model, tokenizer = _merged(source, options, trust)
            else:
                model, tokenizer = _whole(source, options | trust), tokenizer_of(source, **options, **trust)
    except UNREADABLE as error:
        if brings_code(error):
            raise UsageError(
                f"base {spec}: brings code of its own; read it, and let it run with `trust_remote_code: true`"
            ) from error
        if isinstance(error, ImportError):
            advice = "install what it needs"
        elif Path(source).exists():
            advice = "save or copy it again"
        else:
            advice = "give a Hub id that can be reached, or a folder: there is none of this name"
        raise UsageError(f"base {spec}: cannot be opened: {first_line(error)}; {advice}") from error
    revision = options.get("revision")
    return model, tokenizer, revision.resolved if isinstance(revision, ResolvedRevision) else None


def _whole(source: str, options: Mapping[str, Any]) -> Any:
    """The language model of a folder or Hub id, in fp32. Raises UsageError for quantized weights: they could not be trained."""
    config = AutoConfig.from_pretrained(source, **options)
    if quantization := getattr(config, "quantization_config", None):
        kind = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization.quant_method
        raise UsageError(f"base {source}: its weights are quantized ({kind}); give the model in full precision")
    return with_all_weights(AutoModelForCausalLM, source, config=config, use_safetensors=True, **options)


def _unpacked(spec: str, source: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model of a GGUF file in full precision: weights that stay packed could not be trained."""
    unpack = transformers.GgufConfig(dequantize=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting silences
            model = with_all_weights(AutoModelForCausalLM, source, quantization_config=unpack, **options)
            return _unquantized(model), tokenizer_of(source, **options)
    except ImportError as error:
        raise UsageError(f"base {spec}: {first_line(error)}; pip install 'alignment-harness[smollm]'") from error


def _merged(source: str, options: Mapping[str, Any], trust: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model that an adapter was trained on, with the adapter merged in. It may have a tokenizer of its own.

    Raises ValueError for an adapter that is not a language model's, cannot be merged or is not whole.
    """
    from peft import PeftConfig, PeftModel

    about = PeftConfig.from_pretrained(source, **options)
    if about.task_type not in {None, "CAUSAL_LM"} or about.is_prompt_learning:
        raise ValueError(
            f"an adapter of type {about.peft_type.value} for {about.task_type} does not become a language model"
        )
    base, of_base = about.base_model_name_or_path, {"revision": about.revision or "main", **trust}
    try:
        model = _whole(base, of_base)
        try:
            tokenizer = tokenizer_of(source, **options, **trust)
        except (OSError, ValueError):
            tokenizer = tokenizer_of(base, **of_base)
    except UNREADABLE as error:
        raise ValueError(f"it is an adapter for {base}, which fails: {first_line(error)}") from error
    if len(tokenizer) > len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        try:
            return PeftModel.from_pretrained(model, source, **options).merge_and_unload(), tokenizer
        except UserWarning as warning:
            raise ValueError(first_line(warning)) from warning


def _locate(spec: str) -> tuple[str, dict[str, Any]]:
    """Where transformers finds a base, and the options that it needs to open it: of a Hub id one commit, for all its files."""
    if spec.startswith(PACKAGE):
        try:
            path = package_file(spec)
        except ValueError as error:
            raise UsageError(f"base {spec}: {error}") from error
    else:
        path = Path(spec).expanduser()
    if path.suffix == ".gguf":
        return str(path.parent), {"gguf_file": path.name}
    if path.is_file():
        raise UsageError(f"base {spec}: is a file, and not a GGUF one; give the folder that holds the model")
    if path.is_dir():
        if not any(path.glob("*.safetensors")):
            pickled = any(each.suffix in {".bin", ".pt", ".pth"} for each in path.iterdir())
            more = "pickled weights can run code and are refused" if pickled else "give the folder that holds the model"
            raise UsageError(f"base {spec}: no safetensors weights; {more}")
        return str(path), {}
    name, _, revision = spec.partition("@")
    try:
        return name, {"revision": HfApi().resolve_revision(name, revision=revision or None)}
    except Exception:  # the Hub's client raises many kinds; whoever opens the base meets the same, and tells it
        return name, {"revision": revision} if revision else {}


def _unquantized(model: Any) -> Any:
    """The same weights in a model that does not remember GGUF: one that does refuses to be saved."""
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    with torch.random.fork_rng(devices=[]):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    return plain


def _ensure_pad(model: Any, tokenizer: Any) -> None:
    """Give padding a token of its own. Were it EOS, masking the padding would hide the end of every answer."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        known = next((name for name in PAD_NAMES if name in vocabulary and name != tokenizer.eos_token), PAD_NAMES[0])
        tokenizer.add_special_tokens({"pad_token": known})
    embeddings = model.get_input_embeddings().weight
    if len(tokenizer) > len(embeddings):
        size = len(embeddings)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        # A new token starts as the mean of the others: an average logit, where a random row could stand out.
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                for values in (layer.weight, getattr(layer, "bias", None)):
                    if values is not None:
                        values[size:] = values[:size].mean(0)
    model.config.pad_token_id = tokenizer.pad_token_id


def _plain_generation_config(model: Any, tokenizer: Any) -> None:
    """Keep the stop tokens of the base, and the one that ends a turn: its sampling defaults would change what is measured."""
    stops = model.generation_config.eos_token_id if model.generation_config is not None else None
    stops = stops if stops is not None else tokenizer.eos_token_id
    known, end = stops if isinstance(stops, list) else [stops], end_of_turn(tokenizer)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stops if end in known else [*known, end],
        pad_token_id=tokenizer.pad_token_id,
    )


def _tiny(options: TinyBase, texts: Iterable[str], seed: int) -> tuple[Any, Any]:
    if options.type != "tiny":
        raise UsageError(f"base: unknown type {options.type!r}; a base to build has type: tiny")
    tokenizer = _train_tokenizer(texts, options.vocab_size, options.max_position_embeddings)
    sizes = options.model_dump(exclude={"type", "vocab_size"})
    config = LlamaConfig(
        **sizes,
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config), tokenizer


def _train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> Any:
    """A byte-level BPE tokenizer, so that any text can be encoded; the template's role markers are single tokens."""
    bpe = Bpe(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD_NAMES[0], EOS, "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return TokenizersBackend(
        tokenizer_object=bpe,
        eos_token=EOS,
        pad_token=PAD_NAMES[0],
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        model_max_length=max_length,
    )
