"""What a process sends is an answer of its job, or it is refused in one line; and results have names."""

import json
import math

import pytest

from autoresearch_lab.engine import ENGINES, Engine
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_trainer.jobs import KINDS, AnswerRefused
from autoresearch_trainer.jobs.base import MOST_TEXT
from autoresearch_trainer.jobs.calls import CALL, CallArgs, ResultName
from autoresearch_trainer.jobs.machine import DESCRIBE, DescribeArgs
from autoresearch_trainer.jobs.training import TRAIN, TrainingResult
from autoresearch_trainer.kernel_files import KernelFile

FORM = {"type": "torch.Tensor", "plain": True, "dtype": "float32", "shape": [2], "strides": [1], "storage_bytes": 8}
STEP = {"outputs": [FORM], "sequence": False, "grads": {"x": None}, "again": None, "changed": []}
CASE = {"id": "c", "error": None, "steps": [STEP, None], "operators": {"aten::relu": 1}}
ANSWER = {
    "signature": [{"name": "x", "kind": "POSITIONAL_OR_KEYWORD"}],
    "loaded": [],
    "changed": [],
    "native": [],
    "noop": {"functions": [], "calls": 0},
    "cases": [CASE],
}
RUN = {
    "id": "a", "losses": [2.0], "seconds": 1.0, "tokens": 1, "peak_memory_mb": 1.0, "weights": "a.safetensors",
    "sha256": "0" * 64, "failed": None, "environment": [],
}  # fmt: skip


def test_an_honest_answer_is_read_and_written_alike():
    told = CALL.read(ANSWER)
    assert told.cases[0].steps[0].outputs[0].shape == [2] and told.cases[0].steps[1] is None
    assert CALL.read(json.loads(json.dumps(told.model_dump()))) == told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cases": None}, "cases"),
        ({"cases": [{**CASE, "verdict": "PASS"}]}, "cases.0.verdict: Extra"),
        ({"cases": [{**CASE, "steps": [{**STEP, "outputs": [{**FORM, "plain": 1}]}]}]}, "plain: .* boolean"),
        ({"cases": [{**CASE, "steps": [{**STEP, "outputs": [{**FORM, "shape": ["2"]}]}]}]}, "shape.0: .* integer"),
        ({"cases": [{**CASE, "operators": {"aten::relu": -1}}]}, "operators.aten::relu"),
        ({"noop": {"functions": []}}, "noop.calls: Field required"),
        ({"loaded": ["x" * (MOST_TEXT + 1)]}, "loaded.0: .* at most"),
    ],
)
def test_an_answer_of_another_form_is_refused_in_a_line(changes, words):
    with pytest.raises(AnswerRefused, match=words) as refused:
        CALL.read({**ANSWER, **changes})
    assert "\n" not in str(refused.value)
    with pytest.raises(AnswerRefused):
        CALL.read([ANSWER])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, "2.0", None, True])
def test_a_loss_is_a_finite_number(wrong):
    with pytest.raises(AnswerRefused, match="losses"):
        TRAIN.read({"runs": [{**RUN, "losses": [wrong]}], "process": {}})


@pytest.mark.parametrize("name", ["../../outside.safetensors", "/etc/passwd", "", ".hidden"])
def test_weights_lie_in_the_run_folder(name):
    with pytest.raises(ValueError, match="weights"):
        TrainingResult.model_validate({**RUN, "weights": name})


def test_what_a_process_says_can_be_printed():
    told = CALL.read({**ANSWER, "loaded": ["\x1b[2Jquiet\tplease\nnow"]})
    assert told.loaded == [" [2Jquiet please\nnow"]


def test_a_lie_ends_the_job_as_the_processes_own_fault(tmp_path):
    class Lying(Engine):
        def perform(self, job, args, **options):
            assert args["device"] == "cpu" and args["interpreted"] is False
            return {"device": {}}

    liar = Lying(**{name: getattr(ENGINES["cpu"], name) for name in Engine.__dataclass_fields__})
    with pytest.raises(JobFailed, match="describe: the answer cannot be read: software: Field required") as failed:
        liar.run(DESCRIBE, DescribeArgs(), run_dir=tmp_path)
    assert failed.value.kind == "protocol"


def test_every_job_has_a_type_each_way_and_arguments_that_json_holds():
    for name, job in KINDS.items():
        assert job.name == name and job.args.__doc__ and job.answer.model_fields
    kernel = KernelFile("rope", "mine", "/k.py", "0" * 64)
    args = CallArgs(kernel=kernel, inputs="/i", cases=[])
    assert CallArgs.model_validate(json.loads(json.dumps(args.model_dump(mode="json")))) == args


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (ResultName.output(0), "out0", "output 0"),
        (ResultName.gradient("x"), "grad.x", "gradient of x"),
        (ResultName.gradient("x").again, "again.x", "gradient of x (second backward)"),
        (ResultName.argument("p"), "in.p", "argument p"),
    ],
)
def test_a_results_name_goes_into_a_file_and_back(name, text, words):
    assert str(name) == text and ResultName.parse(text) == name and name.words() == words
    assert name.key("gradients/only x", 3) == f"gradients/only x/3/{text}"


@pytest.mark.parametrize("text", ["", "out", "outx", "grad.", "grad", "else.x", "out-1"])
def test_other_texts_name_no_result(text):
    with pytest.raises(ValueError, match="not the name of a result"):
        ResultName.parse(text)
