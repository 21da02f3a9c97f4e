"""Every mistake that a plan can hold: status 2, the right line, what is wrong, what to do, and never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DPO = "    aligner: dpo\n    init: sft\n    data: toy.train\n    beta: 0.1\n    learning_rate: 1.0e-5\n"

# name, what is replaced in the plan (empty: nothing), by what, line, what the message says after the line
BROKEN: list[tuple[str, str, str, int, str]] = [
    # the text
    ("duplicate key", "seed: 1", "seed: 1\nseed: 2", 3, "seed: the key 'seed' stands twice; remove one"),
    ("nested duplicate", "    beta: 0.1\n", "    beta: 0.1\n    beta: 0.2\n", 22, "stages.dpo.beta: the key 'beta' stands twice"),
    ("duplicate in flow", "{temperature: 1.0}", "{temperature: 1.0, temperature: 2.0}", 37, "evaluate.generate.temperature: the key"),
    ("indentation", "    init: base", "   init: base", 10, "not valid YAML"),
    ("unclosed bracket", "base: {type: tiny}", "base: {type: tiny", 4, "not valid YAML"),
    ("tab", "seed: 1", "\tseed: 1", 2, "not valid YAML"),
    ("undefined alias", "baseline: sft", "baseline: *sft", 31, "not valid YAML: found undefined alias"),
    ("recursive alias", "beta: 0.1", "args: &a [*a]", 21, "stages.dpo.args.0: an alias that contains itself"),
    ("recursive merge", "beta: 0.1", "args: &a {<<: *a}", 21, "stages.dpo.args: an alias that contains itself"),
    ("python tag on a scalar", "name: small", "name: !!python/name:os.system", 1, "name: the tag !!python/name:os.system is not allowed"),
    ("python tag on a list", "seed: 1", "seed: !!python/object/apply:os.system [ls]", 2, "seed: the tag !!python/object/apply:os.system"),
    ("python tag on a mapping", "{type: tiny}", "!!python/object:os.x {type: tiny}", 3, "base: the tag !!python/object:os.x is not"),
    ("own tag", "beta: 0.1", "beta: !mine 0.1", 21, "stages.dpo.beta: the tag !mine is not allowed"),
    ("set tag", "{temperature: 1.0}", "!!set {temperature}", 37, "evaluate.generate: the tag !!set is not allowed"),
    ("tag that lies", "beta: 0.1", "beta: !!float much", 21, "stages.dpo.beta: 'much' is not a value of type float"),
    ("lying bool tag", "seed: 1", "seed: !!bool 7", 2, "seed: '7' is not a value of type bool"),
    ("half a character", "seed: 1", 'report: {title: "\\ud800"}', 2, "report.title: half a character"),
    ("key that is a list", "seed: 1", "? [a, b]\n: 1", 2, "a key is text, not a list or a mapping"),
    ("two documents", "evaluate:\n", "---\nevaluate:\n", 30, "not valid YAML: a second document begins here"),
    ("NUL", "seed: 1", "seed: 1\0", 2, "not valid YAML: the character U+0000 is not allowed"),
    ("endless digits", "seed: 1", "seed: " + "9" * 5000, 2, "is not a value of type int"),
    # values
    ("NaN", "beta: 0.1", "beta: .nan", 21, "stages.dpo.beta: expected a finite number, not nan"),
    ("infinity", "learning_rate: 1.0e-5", "learning_rate: .inf", 22, "stages.dpo.learning_rate: expected a finite number, not inf"),
    ("overflow", "beta: 0.1", "beta: 1.0e999", 21, "stages.dpo.beta: expected a finite number, not inf"),
    ("NaN that no model reads", "beta: 0.1", "args: {adam_beta1: .nan}", 21, "stages.dpo.args.adam_beta1: expected a finite number"),
    ("unknown section", "seed: 1", "sede: 1", 2, 'sede: unknown option; did you mean "seed"?'),
    ("unknown option", "beta: 0.1", "betta: 0.1", 21, 'stages.dpo.betta: unknown option; did you mean "beta"?'),
    ("unknown option of a source", "pairs: 100", "pair: 100", 5, 'data.toy.pair: unknown option; did you mean "pairs"?'),
    ("unknown option of a judge", "{judge: toy-truth}", "{judge: toy-truth, modle: x}", 39, "evaluate.judges.truth.modle: unknown option"),
    ("unknown option of a suite", "{data: toy.test}", "{date: toy.test}", 36, 'evaluate.suites.held.date: unknown option; did you mean "data"?'),
    ("unknown option of evaluate", "  baseline: sft", "  base_line: sft", 31, 'base_line: unknown option; did you mean "baseline"?'),
    ("unknown option of base", "{type: tiny}", "{type: tiny, hiden_size: 8}", 3, 'base.hiden_size: unknown option; did you mean "hidden_size"?'),
    ("unknown option of a gate", '"<= 5.0"}', '"<= 5.0", suit: held}', 47, 'require.1.suit: unknown option; did you mean "suite"?'),
    ("wrong type", "beta: 0.1", "beta: much", 21, "stages.dpo.beta: input should be a valid number, unable to parse string as a number, not 'much'"),
    ("text for a list", "  candidates:\n    - dpo\n    - ppo\n", "  candidates: dpo\n", 32, "evaluate.candidates: input should be a valid list, not 'dpo'"),
    ("list for a mapping", "{type: tiny}", "[tiny]", 3, "base: input should be a valid string"),
    ("unknown kind of base", "{type: tiny}", "{type: tinny}", 3, "base.type: there is no 'tinny'; did you mean \"tiny\"?"),
    ("odd heads", "{type: tiny}", "{type: tiny, hidden_size: 100}", 3, "base: hidden_size must be a multiple of twice"),
    ("negative learning rate", "1.0e-5", "-1.0e-5", 22, "stages.dpo.learning_rate: input should be greater than 0, not -1e-05"),
    ("level", "level: 0.95", "level: 95", 44, "evaluate.bootstrap.level: input should be less than 1, not 95"),
    ("a device of no support", "seed: 1", "device: mps", 2, "device: there is no 'mps'; there are auto, cpu, cuda"),
    ("seed", "seed: 1", "seed: -1", 2, "seed: input should be greater than or equal to 0, not -1"),
    ("empty value", "beta: 0.1", "beta:", 21, "stages.dpo.beta: is empty"),
    ("empty entry of data", "  more: {source: prompts, path: more.jsonl}", "  more:", 6, "data.more: is empty"),
    ("empty stage", f"  dpo:\n{DPO}", "  dpo:\n", 17, "stages.dpo: is empty"),
    ("name missing", "name: small\n", "", 1, "name: is missing"),
    ("slash in a name", "name: small", "name: ../small", 1, "name: '../small' is no name; use up to 80 letters"),
    ("dots for a stage", "  dpo:\n", "  ..:\n", 17, "stages...: '..' is no name"),
    # components
    ("unknown aligner", "aligner: dpo", "aligner: dpoo", 18, "stages.dpo.aligner: unknown aligner 'dpoo'; did you mean \"dpo\"?"),
    ("unknown aligner, far off", "aligner: dpo", "aligner: zzz", 18, "unknown aligner 'zzz'; there are dpo, ppo, reward, sft"),
    ("aligner missing", "    aligner: dpo\n", "", 17, "stages.dpo: `aligner` is missing; there are dpo, ppo, reward, sft"),
    ("aligner of no text", "aligner: dpo", "aligner: [dpo]", 18, "stages.dpo.aligner: unknown aligner ['dpo']"),
    ("unknown judge", "judge: toy-truth", "judge: toy-trth", 39, "unknown judge 'toy-trth'; did you mean \"toy-truth\"?"),
    ("unknown metric", "    - kl", "    - kll", 43, "evaluate.metrics.1: unknown metric 'kll'; did you mean \"kl\"?"),
    ("metric twice", "    - kl", "    - win-rate", 41, "evaluate.metrics: 'win-rate' stands twice"),
    ("unknown source", "source: toy", "source: toi", 5, "data.toy.source: unknown source 'toi'; did you mean \"toy\"?"),
    ("unknown backend", "temperature: 1.0", "backend: transformer", 37, 'evaluate.generate.backend: unknown backend \'transformer\'; did you mean "transformers"?'),
    ("unknown suite", "{data: toy.test}", "{suite: saftey}", 36, "evaluate.suites.held.suite: no packaged suite 'saftey'; did you mean \"safety\"?"),
    ("suite of two origins", "{data: toy.test}", "{data: toy.test, suite: safety}", 36, "evaluate.suites.held: a suite comes from exactly one of"),
    ("suite without a file", "{data: toy.test}", "{path: none.jsonl}", 36, "none.jsonl: no such file; paths count from the plan's folder"),
    ("suite of no home", "{data: toy.test}", "{path: ~nobody-of-this-name/x.jsonl}", 36, "suite ~nobody-of-this-name/x.jsonl: cannot be read: "),
    ("data without a file", "path: more.jsonl", "path: ../none.parquet", 6, "data.more.path: ../none.parquet: no such file; paths count from the plan's folder"),
    ("data of no home", "path: more.jsonl", "path: ~nobody-of-this-name/x.jsonl", 6, "data.more.path: ~nobody-of-this-name/x.jsonl: cannot be read: "),
    ("data of an endless name", "path: more.jsonl", f"path: {'x' * 300}.jsonl", 6, "x.jsonl: cannot be read: File name too long"),
    ("data as CSV", "path: more.jsonl", "path: more.csv", 6, "data.more.path: more.csv: no such file"),
    ("data in a folder of none", "path: more.jsonl", "path: .", 6, "data.more.path: .: no .jsonl, .json or .csv file, plain or .gz, or .parquet file in this folder"),
    ("data in a plan", "path: more.jsonl", "path: plan.yaml", 6, "data.more.path: plan.yaml: expected a .jsonl, .json or .csv file, plain or .gz, or .parquet file"),
    ("base in a package of no name", "{type: tiny}", "package://", 3, "base: names no file in a package; write package://PACKAGE/file.gguf"),
    ("base in a package that is not there", "{type: tiny}", "package://nope/x.gguf", 3, "base: there is no package nope; install it"),
    # slots
    ("slot missing", "    aligner: dpo\n    init: sft\n", "    aligner: dpo\n", 17, "stages.dpo: `init` is missing: dpo takes a model there"),
    ("reward model as init", "    aligner: dpo\n    init: sft", "    aligner: dpo\n    init: reward", 19, "stages.dpo.init: 'reward' is a reward-model, and this slot takes a model"),
    ("model as reward model", "reward: reward", "reward: dpo", 26, "stages.ppo.reward: 'dpo' is a model, and this slot takes a reward-model"),
    ("data as init", "    init: base", "    init: toy.train", 10, "stages.sft.init: 'toy.train' is data of kind preferences, and this slot takes a model"),
    ("model as data", "    reward: reward\n    data: toy.train", "    reward: reward\n    data: sft", 27, "stages.ppo.data: 'sft' is a model, and this slot takes a prompts"),
    ("prompts as preferences", "toy.train\n    beta", "more\n    beta", 20, "stages.dpo.data: 'more' is data of kind prompts, and this slot takes a preferences"),
    ("unknown stage in a slot", "    init: base", "    init: bse", 10, "stages.sft.init: no stage named 'bse'; did you mean \"base\"?"),
    ("unknown data", "toy.train\n    beta", "toi.train\n    beta", 20, "stages.dpo.data: no data named 'toi'; did you mean \"toy\"?"),
    ("slot of no text", "    init: base", "    init: [base]", 10, "stages.sft.init: expected the name of a model, not ['base']"),
    ("split missing", "toy.train\n    beta", "toy\n    beta", 20, "data 'toy' is split; say which part: toy.train, toy.valid, toy.test"),
    ("unknown split", "toy.train\n    beta", "toy.tain\n    beta", 20, "data 'toy' has no split 'tain'; did you mean \"train\"?"),
    ("split of unsplit data", "toy.train\n    beta", "more.train\n    beta", 20, "data 'more' has no split 'train'; it has no `split`"),
    ("shares over one", "test: 0.2", "test: 0.3", 5, "data.toy.split: shares add up to 1.1, and may be 1 at most"),
    ("no share", "test: 0.2", "test: 0", 5, "data.toy.split.test: a share is above 0, not 0"),
    # a judge in a slot
    ("unknown judge in a slot", "reward: reward", "reward: {judge: toy-trth}", 26, "stages.ppo.reward.judge: unknown judge 'toy-trth'; did you mean \"toy-truth\"?"),
    ("judge in a slot without a name", "reward: reward", "reward: {model: reward}", 26, "stages.ppo.reward: `judge` is missing; there are"),
    ("unknown option of a judge in a slot", "reward: reward", "reward:\n      judge: toy-truth\n      modle: x", 28, "stages.ppo.reward.modle: unknown option"),
    ("wrong option of a judge in a slot", "reward: reward", "reward: {judge: reward-model, model: reward, max_length: 2}", 26, "stages.ppo.reward.max_length: input should be greater than or equal to 16, not 2"),
    ("judge in a slot without its model", "reward: reward", "reward: {judge: reward-model}", 26, "stages.ppo.reward.model: is missing"),
    ("judge in a slot of a policy", "reward: reward", "reward: {judge: reward-model, model: dpo}", 26, "stages.ppo.reward.model: 'dpo' is a model, and this slot takes a reward-model"),
    ("judge in a slot of nothing", "reward: reward", "reward: {judge: reward-model, model: rewrd}", 26, "stages.ppo.reward.model: no stage named 'rewrd'; did you mean \"reward\"?"),
    ("judge in a slot of the stage itself", "reward: reward", "reward: {judge: reward-model, model: ppo}", 26, "stages.ppo.reward.model: 'ppo' is a model, and this slot takes a reward-model"),
    ("judge in a slot with NaN", "reward: reward", "reward: {judge: toy-truth, weight: .nan}", 26, "stages.ppo.reward.weight: expected a finite number, not nan"),
    ("judge where none fits", "    init: base", "    init: {judge: toy-truth}", 10, "stages.sft.init: expected the name of a model, not {'judge': 'toy-truth'}"),
    ("number in a slot of judges", "reward: reward", "reward: 7", 26, "stages.ppo.reward: expected the name of a reward-model or scoring-judge, not 7"),
    ("itself", "    aligner: dpo\n    init: sft", "    aligner: dpo\n    init: dpo", 17, "stages build on each other in a circle: dpo → dpo"),
    ("circle", "    init: base", "    init: dpo", 8, "stages.sft: stages build on each other in a circle: sft → dpo → sft"),
    ("a step of the evaluation as a stage", "  dpo:\n", "  estimates:\n", 17, "stages.estimates: `estimates` is a step of the evaluation; choose another name"),
    ("base as a stage", "  dpo:\n", "  base:\n", 17, "stages.base: `base` is the starting model; choose another name"),
    ("data and stage of one name", "  dpo:\n", "  toy:\n", 17, "stages.toy: data of this name exist already; rename one"),
    ("data with a dot", "  more:", "  more.all:", 6, "data.more.all: a data set's name has no dot"),
    # how to train
    ("loss of nobody", "beta: 0.1", "loss_type: sigmoyd", 21, "stages.dpo.loss_type: there is no 'sigmoyd' here, but sigmoid, robust, ipo, hinge, simpo, orpo; engine: trl has others"),
    ("loss of nobody in a list", "beta: 0.1", "loss_type: [sigmoid, exo_pair]", 21, "stages.dpo.loss_type: there is no 'exo_pair' here"),
    ("no loss", "beta: 0.1", "loss_type: []", 21, "stages.dpo.loss_type: name one, or several"),
    ("a weight too few", "beta: 0.1", "loss_type: [sigmoid, ipo]\n    loss_weights: [1.0]", 22, "stages.dpo.loss_weights: one weight for each loss_type"),
    ("a weight without a list", "beta: 0.1", "loss_weights: [1.0, 0.5]", 21, "stages.dpo.loss_weights: one weight for each loss_type"),
    ("simpo of TRL", "beta: 0.1", "engine: trl\n    loss_type: simpo", 22, "stages.dpo.loss_type: TRL's DPOTrainer has neither simpo nor orpo; leave `engine` out"),
    ("smoothing that nothing reads", "beta: 0.1", "loss_type: ipo\n    label_smoothing: 0.1", 22, "stages.dpo.label_smoothing: only robust, sigmoid, simpo read it"),
    ("smoothing that TRL does not read", "beta: 0.1", "engine: trl\n    label_smoothing: 0.1", 22, "stages.dpo.label_smoothing: only aot, aot_unpaired, exo_pair, robust read it"),
    ("smoothing of one half", "beta: 0.1", "label_smoothing: 0.5", 21, "stages.dpo.label_smoothing: input should be less than 0.5"),
    ("gamma that nothing reads", "beta: 0.1", "loss_type: [sigmoid, orpo]\n    simpo_gamma: 0.5", 22, "stages.dpo.simpo_gamma: only simpo reads it; leave it out"),
    ("scores far from zero", "valid: toy.valid", "center_rewards_coefficient: -0.01", 16, "stages.reward.center_rewards_coefficient: input should be greater than or equal to 0"),
    ("unknown engine", "beta: 0.1", "engine: tlr", 21, "stages.dpo.engine: there is no 'tlr'; did you mean \"trl\"?"),
    ("unknown schedule", "beta: 0.1", "lr_scheduler_type: cosin", 21, "stages.dpo.lr_scheduler_type: there is no 'cosin'; did you mean \"cosine\"?"),
    ("unknown schedule, far off", "beta: 0.1", "lr_scheduler_type: zzz", 21, "lr_scheduler_type: there is no 'zzz'; there are linear, cosine, "),
    ("schedule without what it needs", "beta: 0.1", "lr_scheduler_type: warmup_stable_decay", 21, "stages.dpo.lr_scheduler_type: warmup_stable_decay needs num_decay_steps in args.lr_scheduler_kwargs"),
    ("schedule of TRL without what it needs", "beta: 0.1", "engine: trl\n    lr_scheduler_type: cosine_with_min_lr", 22, "stages.dpo.lr_scheduler_type: cosine_with_min_lr needs either min_lr or min_lr_rate in args.lr_scheduler_kwargs"),
    ("warm-up of a schedule without one", "beta: 0.1", "lr_scheduler_type: constant\n    warmup_steps: 5", 22, "stages.dpo.warmup_steps: constant has no warm-up; leave it out, or take constant_with_warmup"),
    ("unknown option of a schedule", "beta: 0.1", "lr_scheduler_type: polynomial\n    args: {lr_scheduler_kwargs: {powr: 2}}", 22, "stages.dpo.args: lr_scheduler_kwargs: polynomial has no 'powr'; did you mean \"power\"?"),
    ("unknown optimizer", "beta: 0.1", "args: {optim: adamw_troch}", 21, "stages.dpo.args: optim: there is no 'adamw_troch'; did you mean \"adamw_torch\"?"),
    ("argument that only TRL reads", "beta: 0.1", "args: {dataloader_num_workers: 2}", 21, "stages.dpo.args: dataloader_num_workers is not read here; engine: trl reads it; of TrainingArguments optim, "),
    ("unknown option of lora", "beta: 0.1", "lora: {r: 4, alfa: 8}", 21, 'stages.dpo.lora.alfa: unknown option; did you mean "alpha"?'),
    ("adapters of no rank", "beta: 0.1", "lora: {r: 0}", 21, "stages.dpo.lora.r: input should be greater than or equal to 1, not 0"),
    ("adapters of no mapping", "beta: 0.1", "lora: true", 21, "stages.dpo.lora: "),
    # training arguments
    ("unknown argument", "beta: 0.1", "args: {optimm: adamw_torch}", 21, 'stages.dpo.args.optimm: transformers\' TrainingArguments have no such field; did you mean "optim"?'),
    ("argument with an option", "beta: 0.1", "args: {learning_rate: 1.0}", 21, "stages.dpo.args.learning_rate: give it as the stage's own option `learning_rate`"),
    ("argument that the run sets", "beta: 0.1", "args: {output_dir: elsewhere}", 21, "stages.dpo.args.output_dir: the run sets it"),
    ("arguments of no mapping", "beta: 0.1", "args: fast", 21, "stages.dpo.args: expected a mapping, not 'fast'"),
    # requires
    ("requires of a policy", "{model: reward, metric", "{model: sft, metric", 29, "stages.ppo.requires.0.model: 'sft' is a model; what a stage requires of is a reward-model"),
    ("requires of nothing", "{model: reward, metric", "{model: rewrd, metric", 29, "no stage named 'rewrd'; did you mean \"reward\"?"),
    ("requires without valid", "    valid: toy.valid\n", "", 28, "stages.ppo.requires.0.model: 'reward' is measured on no data; give it `valid:`"),
    ("requires of another metric", "metric: accuracy", "metric: acuracy", 29, 'stages.ppo.requires.0.metric: no estimate of this plan has the metric \'acuracy\'; did you mean "accuracy"?'),
    ("requires of no list", '\n      - {model: reward, metric: accuracy, value: ">= 0.6"}', " accuracy", 28, "stages.ppo.requires: expected a list of gates"),
    # evaluation
    ("baseline of nothing", "baseline: sft", "baseline: stf", 31, "evaluate.baseline: no stage named 'stf'; did you mean \"sft\"?"),
    ("baseline of a reward model", "baseline: sft", "baseline: reward", 31, "evaluate.baseline: 'reward' is a reward-model; it gives no answers"),
    ("candidate of nothing", "    - ppo", "    - poo", 34, "evaluate.candidates.1: no stage named 'poo'; did you mean \"ppo\"?"),
    ("candidate of a reward model", "    - ppo", "    - reward", 34, "evaluate.candidates.1: 'reward' is a reward-model"),
    ("candidate twice", "    - ppo", "    - dpo", 32, "evaluate.candidates: 'dpo' stands twice"),
    ("only the baseline", "    - dpo\n    - ppo\n", "    - sft\n", 32, "evaluate.candidates: only the baseline itself"),
    ("judge of nothing", "model: reward}\n", "model: rewrad}\n", 40, "evaluate.judges.referee.model: no stage named 'rewrad'; did you mean \"reward\"?"),
    ("judge of a policy", "model: reward}\n", "model: dpo}\n", 40, "evaluate.judges.referee.model: 'dpo' is a model, and this slot takes a reward-model"),
    ("judge without its model", ", model: reward}\n", "}\n", 40, "evaluate.judges.referee.model: is missing"),
    ("kl at another temperature", "temperature: 1.0", "temperature: 0.7", 37, "evaluate.generate.temperature: kl is only right for temperature 1"),
    ("kl with top_p", "temperature: 1.0", "top_p: 0.9", 37, "evaluate.generate.top_p: kl is only right for temperature 1"),
    ("reference of nothing", "  baseline: sft", "  reference: toy.vald\n  baseline: sft", 31, "evaluate.reference: data 'toy' has no split 'vald'; did you mean \"valid\"?"),
    ("reference of prompts", "  baseline: sft", "  reference: more\n  baseline: sft", 31, "evaluate.reference: 'more' is data of kind prompts; chosen answers come from preferences"),
    # gates
    ("gate on nothing", "metric: kl, value", "metric: reward, value", 47, "require.1.metric: no estimate of this plan has the metric 'reward'"),
    ("gate on another judge", "judge: truth, low", "judge: trth, low", 46, "require.0.judge: no estimate of this plan has the judge 'trth'; did you mean \"truth\"?"),
    ("gate on no combination", "{model: dpo, metric: kl, value", "{model: dpo, metric: kl, judge: truth, value", 47, "require.1: matches no estimate of this plan. Near it: model dpo, metric kl, suite held"),
    ("gate on several", "judge: truth, low", "low", 46, "require.0: matches several estimates: model dpo, metric win-rate, judge truth, suite held"),
    ("bad bound", '"<= 5.0"', '"about 5"', 47, "require.1.value: 'about 5' is not a bound; write one such as \">= 0.65\""),
    ("two bounds", 'low: ">= 0.5"', 'low: ">= 0.5", high: "< 1"', 46, "require.0: a gate compares exactly one of `value`, `low` and `high`"),
    ("no bound", ', low: ">= 0.5"', "", 46, "require.0: a gate compares exactly one of `value`, `low` and `high`"),
    # sweeps
    ("sweep of nothing", "seed: 1", "sweep: {dpoo.beta: [0.1]}", 2, 'sweep.dpoo.beta: write STAGE.OPTION, with a stage of this plan, such as dpo.beta; did you mean "dpo"?'),
    ("sweep without an option", "seed: 1", "sweep: {dpo: [0.1]}", 2, "sweep.dpo: write STAGE.OPTION"),
    ("sweep of one value", "seed: 1", "sweep: {dpo.beta: 0.1}", 2, "sweep.dpo.beta: a sweep is a list of values"),
    ("sweep of lists", "seed: 1", "sweep: {dpo.beta: [[0.1]]}", 2, "sweep.dpo.beta: a sweep's values are numbers or text"),
    ("sweep with a twin", "seed: 1", "sweep: {dpo.beta: [0.1, 0.1000000001]}", 2, "sweep.dpo.beta: 0.1 stands twice"),
    ("sweep of an unknown option", "seed: 1", "sweep: {dpo.betta: [0.1]}", 2, 'sweep.dpo.betta: unknown option; did you mean "beta"?'),
    ("sweep of a bad value", "seed: 1", "sweep: {dpo.beta: [0.1, -1]}", 2, "sweep.dpo.beta: input should be greater than 0, not -1"),
    ("sweep that explodes", "seed: 1", f"sweep: {{dpo.beta: {list(range(1, 30))}, dpo.seed: {list(range(30))}}}", 2, "sweep: makes 870 stages; at most 200"),
    ("sweep onto a stage", "seed: 1\n", "sweep: {dpo.beta: [0.1]}\n", 16, "stages.dpo-beta-0.1: the sweep makes a stage of this name too"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "line", "text"), BROKEN, ids=[row[0].replace(" ", "-") for row in BROKEN])
def test_each_mistake_is_told_with_its_line(
    command: Callable[..., Any], plan_text: str, name: str, old: str, new: str, line: int, text: str
) -> None:
    if name == "sweep onto a stage":
        plan_text = plan_text.replace("  dpo:\n", f"  dpo-beta-0.1:\n{DPO}  dpo:\n")
        line = 17
    assert plan_text.count(old) >= 1
    Path("plan.yaml").write_text(plan_text.replace(old, new, 1), encoding="utf-8")
    outcome = command("check", "plan.yaml")
    assert outcome.status == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    told = [each for each in outcome.err.splitlines() if each.startswith(f"plan.yaml:{line}: ") and text in each]
    assert told, outcome.err


def test_there_are_at_least_forty() -> None:
    assert len(BROKEN) >= 40


def test_the_plan_itself_is_valid(command: Callable[..., Any], plan_text: str) -> None:
    Path("plan.yaml").write_text(plan_text, encoding="utf-8")
    Path("more.jsonl").write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    assert command("check", "plan.yaml").status == 0


def test_all_problems_are_told_at_once(command: Callable[..., Any], plan_text: str) -> None:
    changes = [("seed: 1", "sede: 1"), ("beta: 0.1", "betta: 0.1"), ("level: 0.95", "level: 2"), ("    - kl", "    - kll")]
    changes += [
        ("source: toy", "source: toy, limit: 0"),
        ("1.0e-5", ".nan"),
        ("    aligner: sft", "    aligner: sft\n    aligner: x"),
    ]
    for old, new in changes:
        plan_text = plan_text.replace(old, new, 1)
    Path("plan.yaml").write_text(plan_text, encoding="utf-8")
    outcome = command("check", "plan.yaml")
    told = [line.split(": ")[:2] for line in outcome.err.splitlines()]
    assert told == [
        ["plan.yaml:2", "sede"],
        ["plan.yaml:5", "data.toy.limit"],
        ["plan.yaml:6", "data.more.path"],
        ["plan.yaml:10", "stages.sft.aligner"],
        ["plan.yaml:22", "stages.dpo.betta"],
        ["plan.yaml:23", "stages.dpo.learning_rate"],
        ["plan.yaml:44", "evaluate.metrics.1"],
        ["plan.yaml:45", "evaluate.bootstrap.level"],
    ]


def test_gates_are_told_with_other_problems(command: Callable[..., Any], plan_text: str) -> None:
    Path("plan.yaml").write_text(
        plan_text.replace("beta: 0.1", "betta: 0.1").replace("judge: truth, low", "low"), encoding="utf-8"
    )
    outcome = command("check", "plan.yaml")
    assert "plan.yaml:21: stages.dpo.betta" in outcome.err
    assert "plan.yaml:46: require.0: matches several" in outcome.err


SETTINGS = [
    ("stages.dpo.beta", "--set stages.dpo.beta: expected KEY=VALUE, such as --set stages.dpo.beta=0.2"),
    ("=1", "--set =1: expected KEY=VALUE"),
    ("stages..beta=1", "--set stages..beta=1: expected KEY=VALUE"),
    ("stages.dpo.beta=[1", "--set stages.dpo.beta=[1: not valid YAML"),
    ("seed=!!python/name:os.system", "--set seed=!!python/name:os.system: the tag !!python/name:os.system is not allowed"),
    ("seed=&a [*a]", "--set seed=&a [*a]: an alias that contains itself"),
    ("stages.dop.beta=1", "--set stages.dop.beta=1: stages has no 'dop'; did you mean \"dpo\"?"),
    ("seed.more=1", "--set seed.more=1: seed is 1, it has no 'more' in it"),
    ("require.7.low=1", "--set require.7.low=1: require is a list of 2, counted from 0; '7' is not in it"),
    ("stages.dpo.betta=1", '--set stages.dpo.betta=1: stages.dpo.betta: unknown option; did you mean "beta"?'),
    (
        "stages.dpo={aligner: dpo, init: sft, data: toy.train, beta: -1}",
        "beta: -1}: stages.dpo.beta: input should be greater",
    ),
    ("stages.dpo.beta=.nan", "--set stages.dpo.beta=.nan: stages.dpo.beta: expected a finite number, not nan"),
    ("sweep.dpo.beta=0.1", "--set sweep.dpo.beta=0.1: sweep.dpo.beta: a sweep is a list of values"),
    ("name=", "--set name=: name: is empty"),
]


@pytest.mark.parametrize(("setting", "text"), SETTINGS)
def test_a_setting_that_makes_no_sense(command: Callable[..., Any], plan_text: str, setting: str, text: str) -> None:
    Path("plan.yaml").write_text(plan_text, encoding="utf-8")
    outcome = command("check", "plan.yaml", "--set", setting)
    assert outcome.status == 2
    assert text in outcome.err
    assert "Traceback" not in outcome.err
