import dataclasses
import tomllib

import pytest
import tomli_w

from pocketseq import layers
from pocketseq.pipeline.configuration import (
    ATTENTIONS,
    RECIPES,
    AttentionConfig,
    Config,
    DataConfig,
    SearchConfig,
    fine_tuned,
    load_recipe,
    model_of,
    override,
    parse_config,
    read_config,
    with_files,
)
from pocketseq.pipeline.errors import UserError

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))
SECTIONS = ("data", "source", "target", "model", "training", "search")


def other_than_default(field):
    """Returns a possible value of a field that is not its default."""
    choices = {
        "tokenizer": "word", "attention": AttentionConfig("dot"), "metric": "per",
        "precision": "bfloat16", "decompose": "auto", "ngram_bits": 4,
    }  # fmt: skip
    if field.name in choices:
        return choices[field.name]
    if field.type in (bool, "bool"):
        return not field.default
    if field.type in (int, "int"):
        return field.default + 2
    if field.type in (float, "float"):
        return field.default / 2
    return f'{field.name} "\u00e9" \\ #'


def other_config():
    """Returns a configuration without any default value."""
    sections = {
        name: type(getattr(Config(), name))(
            **{
                field.name: other_than_default(field)
                for field in dataclasses.fields(getattr(Config(), name))
            }
        )
        for name in SECTIONS
    }
    return Config(name="other", task="nothing", **sections)


@pytest.fixture
def toml(tmp_path):
    """Returns a function that writes TOML text to a file and returns its path."""

    def write(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_loads_under_its_name(name):
    config = load_recipe(name)
    assert config.name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_that_names_data_states_its_licence(name):
    data = load_recipe(name).data
    assert bool(data.train) == (data.license != "not stated")


def test_the_default_recipe_is_among_them():
    assert "pronunciation" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_its_file_says(name):
    values = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    loaded = dataclasses.asdict(load_recipe(name))
    for section in SECTIONS:
        for key, value in values.get(section, {}).items():
            assert loaded[section][key] == value


def test_no_value_is_lost_on_the_way_through_a_file(toml):
    config = other_config()
    for section in SECTIONS:
        for field in dataclasses.fields(getattr(config, section)):
            assert getattr(getattr(config, section), field.name) != field.default
    assert read_config(toml(config.to_toml())) == config


def test_a_recipe_may_be_a_path(toml):
    path = toml('name = "mine"\n[model]\nunits = 32\n')
    assert load_recipe(str(path)).model.units == 32


def test_a_key_that_a_file_lacks_has_its_default(toml):
    text = Config().to_toml().replace("patience = 8\n", "")
    assert "patience" not in text
    assert read_config(toml(text)) == Config()
    assert read_config(toml("")) == Config()


def test_an_unknown_key_in_a_file_is_an_error_that_lists_the_known(toml):
    path = toml("[search]\nbeam = 3\n")
    expected = (
        "unknown key search.beam, expected one of: search.beam_size, search.length"
    )
    with pytest.raises(UserError, match=expected) as error:
        read_config(path)
    assert str(path) in str(error.value)


def test_an_unknown_section_is_an_error_that_lists_the_known(toml):
    with pytest.raises(UserError, match="unknown key modle, expected one of: .*model"):
        read_config(toml("[modle]\nunits = 3\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[training]\nupdates = 1.5", "training.updates: expected a whole number"),
        ("[training]\nupdates = true", "training.updates: expected a whole number"),
        (
            '[training]\nlearning_rate = "x"',
            "training.learning_rate: expected a number",
        ),
        ("[model]\ninput_feeding = 1", "model.input_feeding: expected true or false"),
        ("[source]\ntokenizer = 1", "source.tokenizer: expected text"),
        ("name = []", "name: expected text"),
        ("model = 1", "model: expected a section"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_says_what_is_right(
    toml, text, expected
):
    with pytest.raises(UserError, match=expected):
        read_config(toml(text))


@pytest.mark.parametrize("data", [b"name = ", b"name = '\xff'"])
def test_a_file_that_is_not_toml_is_an_error_that_names_it(tmp_path, data):
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(UserError, match="x.toml: not valid TOML"):
        read_config(path)


def test_a_whole_number_will_do_for_a_number(toml):
    value = read_config(toml("[training]\nlearning_rate = 1")).training.learning_rate
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize("name", ["nothing", "nothing.toml"])
def test_an_unknown_recipe_is_an_error_that_lists_the_known(name):
    with pytest.raises(UserError, match=f"{name}: no such recipe.*pronunciation"):
        load_recipe(name)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.updates=7", 7),
        ("training.learning_rate=1e-4", 1e-4),
        ("training.learning_rate=1", 1.0),
        ("model.input_feeding=true", True),
        ("data.train=a b/c=d.tsv", "a b/c=d.tsv"),
        ("data.license=", ""),
        (" training.updates = 7 ", 7),
    ],
)
def test_a_setting_changes_one_value(setting, value):
    section, key = setting.partition("=")[0].strip().split(".")
    config = override(Config(), [setting])
    found = getattr(getattr(config, section), key)
    assert (found, type(found)) == (value, type(value))
    default = getattr(Config(), section)
    changed = dataclasses.replace(default, **{key: value})
    assert config == dataclasses.replace(Config(), **{section: changed})


@pytest.mark.parametrize(
    "settings",
    [
        ["model.attention=dot"], ['model.attention="dot"'],
        ["model.attention.score=dot"],
        ["model.attention.initial_scale=1", "model.attention=dot"],
        ["model.attention=none", "model.attention=dot"],
    ],
)  # fmt: skip
def test_another_score_brings_its_own_options(settings):
    attention = override(Config(), settings).model.attention
    assert dataclasses.asdict(attention) == {"score": "dot"}
    back = override(override(Config(), settings), ["model.attention=cosine"])
    assert back == Config()


@pytest.mark.parametrize(
    "settings",
    [
        ["model.attention.initial_scale=1", "model.attention.learned_scale=false"],
        ["model.initial_scale=1", "model.learned_scale=false"],  # of version 0.1
        [
            "model.initial_scale=1",
            "model.attention=cosine",
            "model.learned_scale=false",
        ],
    ],
)
def test_the_options_of_the_cosine_are_in_its_section(settings):
    attention = override(Config(), settings).model.attention
    expected = {"score": "cosine", "initial_scale": 1.0, "learned_scale": False}
    assert dataclasses.asdict(attention) == expected


def test_an_option_of_another_score_is_a_mistake():
    settings = ["model.attention=dot", "model.attention.initial_scale=1"]
    with pytest.raises(UserError, match="unknown key model.attention.initial_scale"):
        override(Config(), settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[model]\nattention = "dot"\ninitial_scale = 10.0\n', {"score": "dot"}),
        (
            '[model]\nattention = "cosine"\ninitial_scale = 1\nlearned_scale = false\n',
            {"score": "cosine", "initial_scale": 1.0, "learned_scale": False},
        ),
        (
            "[model]\ninitial_scale = 3.0\n",
            {"score": "cosine", "initial_scale": 3.0, "learned_scale": True},
        ),
        ('[model.attention]\nscore = "none"\n', {"score": "none"}),
    ],
)
def test_a_recipe_of_version_0_1_still_loads(text, expected):
    config = parse_config(text, "old.toml")
    assert dataclasses.asdict(config.model.attention) == expected
    assert parse_config(config.to_toml(), "new.toml", whole=True) == config


def test_each_score_has_a_layer_that_takes_its_options():
    assert set(ATTENTIONS) == set(layers.ATTENTIONS)
    for score, kind in ATTENTIONS.items():
        options = dataclasses.asdict(kind(score=score))
        layer = layers.ATTENTIONS[options.pop("score")](**options)
        assert {name: getattr(layer, name) for name in options} == options


def test_a_new_score_can_be_given_its_options():
    settings = ["model.attention=additive", "model.attention.width=5"]
    attention = override(Config(), settings).model.attention
    assert dataclasses.asdict(attention) == {"score": "additive", "width": 5}


def test_the_last_of_several_settings_counts():
    config = override(Config(), ["name=x", "model.units=4", "model.units=8"])
    assert (config.name, config.model.units) == ("x", 8)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.unit=3", "unknown key model.unit, expected one of: .*model.units"),
        ("unit=3", r"unknown key unit, expected one of: .*model\.\*"),
        ("a.b.c=3", r"unknown key a.b.c, expected one of: .*model\.\*"),
        (
            "model.units.x=3",
            "unknown key model.units.x, expected one of: .*model.units",
        ),
        ("model=3", "unknown key model, expected one of: .*model.units"),
        ("model.units", "expected section.key=value"),
        ("model.units=many", "model.units: expected a whole number, found 'many'"),
        ("model.units=1.5", "model.units: expected a whole number, found 1.5"),
        ("model.dropout=no", "model.dropout: expected a number, found 'no'"),
        (
            "model.bidirectional=1",
            "model.bidirectional: expected true or false, found 1",
        ),
        ("model.attention=2", "model.attention.score: expected text, found 2"),
        ("model.attention=true", "model.attention.score: expected text, found True"),
        (
            "model.attention.initial_scales=2",
            "unknown key model.attention.initial_scales, .*model.attention.learned",
        ),
        ("model.attention.score.x=2", "unknown key model.attention.score.x"),
    ],
)
def test_a_wrong_setting_is_an_error_that_says_what_is_right(setting, expected):
    with pytest.raises(UserError, match=expected):
        override(Config(), [setting])


@pytest.mark.parametrize(
    "setting",
    [
        "source.tokenizer=letters", "target.tokenizer=", "model.attention.score=best",
        "model.dropout=1", "model.dropout=-0.1", "model.units=33", "model.units=0",
        "model.attention.initial_scale=0",
        "model.attention.initial_scale=101", "data.dev_share=0",
        "data.dev_share=1.0", "training.updates=0", "training.batch_tokens=-1",
        "training.average_decay=1", "training.label_smoothing=1.5",
        "training.learning_rate=0", "training.learning_rate=nan",
        "training.clip_norm=0", "training.buckets=0", "training.evaluate_every=0",
        "training.patience=0", "training.seed=-1", "training.warmup_updates=-1",
        "training.final_learning_rate_share=-0.5", "source.max_code_points=0",
        "source.vocabulary_size=0", "target.vocabulary_size=-1",
        "search.beam_size=0", "model.encoder_layers=0", "model.units=1000000",
        "target.max_code_points=100000000", "training.seed=2147483648",
        f"training.seed={2**64}", "search.length_penalty=inf",
        "training.clip_norm=inf", "data.dev_share=nan", "search.beam_size=100000",
    ],
)  # fmt: skip
def test_an_impossible_value_is_an_error_that_names_the_key(setting):
    key = setting.partition("=")[0]
    with pytest.raises(UserError, match=rf"{key} = .*expected"):
        override(Config(), [setting])


def test_a_joint_vocabulary_needs_the_same_tokenizer_on_both_sides():
    settings = ["source.joint_vocabulary=true", "target.tokenizer=word"]
    with pytest.raises(UserError, match="same tokenizer .* found character and word"):
        override(Config(), settings)
    same = [*settings, "source.tokenizer=word"]
    assert override(Config(), same).source.joint_vocabulary


def test_an_impossible_value_in_a_file_is_an_error_that_names_the_key(toml):
    with pytest.raises(UserError, match="search.beam_size = 0: expected"):
        read_config(toml("[search]\nbeam_size = 0"))


NUMBERS = [
    f"{section}.{field.name}"
    for section in SECTIONS
    for field in dataclasses.fields(getattr(Config(), section))
    if type(field.default) in (int, float)
]


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "1" + 400 * "0", "0x" + 9999 * "f"]
)
def test_no_number_may_be_endless_or_not_a_number(key, value):
    with pytest.raises(UserError, match=f"{key}.*expected") as error:
        override(Config(), [f"{key}={value}"])
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("value", ["[" * 10**5, "{a=" * 10**5])
def test_nesting_without_end_is_an_error(toml, value):
    with pytest.raises(UserError, match="recipe.toml: not valid TOML: nested too"):
        read_config(toml(f"name = {value}"))
    with pytest.raises(UserError, match="nested too deeply"):
        override(Config(), [f"name={value}"])


def test_a_number_of_thousands_of_digits_is_an_error(toml):
    with pytest.raises(UserError, match="recipe.toml: not valid TOML: Exceeds"):
        read_config(toml("[training]\nseed = " + 5000 * "9"))


def test_a_setting_of_several_lines_is_one_value():
    value = 'x"\n[model]\nunits = 4'
    assert override(Config(), [f"name={value}"]) == Config(name=value)
    assert override(Config(), ["name=1\ntask=2"]).name == "1\ntask=2"


@pytest.mark.parametrize("missing", SECTIONS)
def test_what_a_run_has_saved_has_every_section(toml, missing):
    values = dataclasses.asdict(Config())
    del values[missing]
    path = toml(tomli_w.dumps(values))
    assert read_config(path) == Config()
    with pytest.raises(UserError, match=f"damaged, the section {missing} is missing"):
        read_config(path, whole=True)


@pytest.mark.parametrize("name", ["../recipes/pronunciation", "./translation", ""])
def test_a_recipe_name_leads_nowhere_else(name):
    with pytest.raises(UserError, match="no such recipe"):
        load_recipe(name)


def test_what_a_run_started_from_is_no_part_of_a_recipe(toml):
    assert load_recipe(str(toml('base = "runs/other"'))).base == ""
    with pytest.raises(UserError, match="--set base=x: expected --from RUN"):
        override(Config(), ["base=x"])


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("model.units=64", "256"), ("source.fold_case=true", "False"),
        ("target.max_code_points=9", "64"), ("model.attention.score=none", "'cosine'"),
        ("model.attention.initial_scale=1", "10.0"),
    ],
)  # fmt: skip
def test_fine_tuning_refuses_another_model(setting, kept):
    key = setting.partition("=")[0]
    expected = f"{key} = .*: runs/base was trained with {kept}, expected the same"
    with pytest.raises(UserError, match=expected):
        fine_tuned(override(Config(), [setting]), Config(), "runs/base")


def test_fine_tuning_may_say_what_is_so_anyway_and_change_the_dropout():
    config = override(Config(), ["model.units=256", "model.dropout=0.4"])
    assert fine_tuned(config, Config(), "runs/base").model == config.model


def test_a_recipe_takes_the_model_of_a_run_but_for_its_dropout():
    base, recipe = other_config(), load_recipe("pronunciation-small")
    merged = model_of(base, recipe)
    assert (merged.source, merged.target) == (base.source, base.target)
    assert merged.model == dataclasses.replace(base.model, dropout=0.3)
    assert merged.training == recipe.training


@pytest.mark.parametrize("kind", ["character", "word", "wordpiece"])
def test_either_side_may_have_any_tokenizer(kind):
    config = override(
        Config(), [f"source.tokenizer={kind}", f"target.tokenizer={kind}"]
    )
    assert config.source.tokenizer == config.target.tokenizer == kind


def test_an_unknown_tokenizer_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match="'bpe': expected character, word or wordpiece"):
        override(Config(), ["target.tokenizer=bpe"])


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("value", [True, False, "auto"])
def test_either_side_may_leave_decomposing_to_the_texts(side, value, tmp_path):
    text = "auto" if value == "auto" else str(value).lower()
    config = override(Config(), [f"{side}.decompose={text}"])
    assert getattr(config, side).decompose is value or value == "auto"
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml())
    assert read_config(path) == config


@pytest.mark.parametrize("value", ["maybe", "1", '"true"', "[true]"])
def test_any_other_way_to_decompose_is_a_mistake(value):
    expected = r'--set: source.decompose: expected true, false or "auto", found '
    with pytest.raises(UserError, match=expected):
        override(Config(), [f"source.decompose={value}"])


def test_units_may_be_odd_in_one_direction():
    config = override(Config(), ["model.bidirectional=false", "model.units=33"])
    assert config.model.units == 33


def test_a_training_corpus_replaces_all_data_of_the_recipe():
    config = other_config()
    data = with_files(config, "t.tsv", None, None, None, False).data
    assert data == DataConfig(
        train="t.tsv",
        dev_share=config.data.dev_share,
        dev_texts=config.data.dev_texts,
    )


def test_a_dev_corpus_replaces_only_that_of_the_recipe():
    config = other_config()
    changed = with_files(config, None, None, "d.src", "d.tgt", False)
    data = dataclasses.replace(config.data, dev="d.src", dev_target="d.tgt")
    assert changed == dataclasses.replace(config, data=data)


def test_target_files_and_skipping_are_taken_over():
    data = with_files(Config(), "t.s", "t.t", "d.s", "d.t", True).data
    assert data == DataConfig(
        train="t.s",
        train_target="t.t",
        dev="d.s",
        dev_target="d.t",
        skip_bad_lines=True,
    )


def test_no_files_change_nothing():
    assert with_files(other_config(), None, None, None, None, False) == other_config()


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ((None, "x", None, None, False), "--train"),
        ((None, None, None, "x", False), "--dev"),
    ],
)
def test_a_target_file_without_its_source_file_is_an_error(files, name):
    with pytest.raises(UserError, match=f"{name}-target x: expected {name} FILE"):
        with_files(Config(), *files)


def test_the_main_metric_follows_from_the_target():
    found = {
        kind: override(Config(), [f"target.tokenizer={kind}"]).metric
        for kind in ("word", "character", "wordpiece")
    }
    assert found == {"word": "wer", "character": "cer", "wordpiece": "bleu"}


def test_a_recipe_may_name_another_metric_of_the_same_target():
    settings = ["target.tokenizer=wordpiece", "training.metric=chrf"]
    assert override(Config(), settings).metric == "chrf"
    expected = "training.metric = 'wer': expected one of bleu, chrf, cer, exact"
    with pytest.raises(UserError, match=expected):
        override(Config(), [settings[0], "training.metric=wer"])


def test_the_defaults_are_possible():
    assert override(Config(), []) == Config()
    assert Config().search == SearchConfig(beam_size=1, length_penalty=1.0)
