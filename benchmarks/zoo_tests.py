"""Which test says what of which system: a column of the zoo's table, a test's node id, the ids that it covers.

A node id without brackets means the test with all its parameters. An import is a test of a key map, on a file with the
public names and shapes: ids whose part is the same (``PartImport``) share it.
"""

from __future__ import annotations

_MODELS = "tests/export/models/test_"
_TRAIN = "tests/export/train/test_train_"
_EACH = f"{_TRAIN}each.py"
_BLOCKS = "tests/export/blocks/test_"
_MAPS = "tests/export/key_maps/test_"
_CLIPS = "tests/export/test_clip_"
_OFFLINE = "test_streamed_as_torch_scores_offline"

_COMBINED = ("hs", "lh", "lhs", "lm", "lmh", "lms", "ls", "mh", "mhs", "ms")
_MODULES = ("m3s-low", "m3s-mid", "m3s-high", "m3s-sim", *(f"m3s-{letters}" for letters in _COMBINED))
_M3S = ("m3s", *_MODULES)
_WITH_MID = tuple(name for name in _M3S if name not in ("m3s-low", "m3s-high", "m3s-lh"))
_WITH_HIGH = tuple(name for name in _M3S if name not in ("m3s-low", "m3s-mid", "m3s-lm"))
_C3D = ("c3d-mlp", "c3d-mlp-videomem", "c3d-lbp-aesthetics-mlp", "c3d-hmp-mlp")
_AMNET = ("amnet", "amnet-mean", "amnet-rnn", "amnetvid")
_DSVE = ("ic-image", "ic-image-text", "semantic", "semantic-attention")


def _each(test: str, *ids: str, after: str = "") -> dict[str, tuple[str, ...]]:
    """A test whose parameter begins with the id; ``after``: what follows it."""
    return {f"{test}[{name}{after}]": (name,) for name in ids}


TESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "counts": {
        **_each("tests/export/test_zoo.py::test_full_size_counts_agree_with_the_card", "resnet18", "resnet101"),
        f"{_MODELS}memnet.py::test_golden_counts_and_the_recipes_names": ("memnet",),
        f"{_MODELS}svr.py::test_counts_are_the_features_and_1025_numbers[memnet-svr-56868224]": ("memnet-svr",),
        f"{_MODELS}svr.py::test_counts_are_the_features_and_1025_numbers[vgg16-svr-134260544]": ("vgg16-svr",),
        f"{_MODELS}svr.py::test_counts_are_the_features_and_1025_numbers[ic-svr-143765568]": ("ic-svr",),
        f"{_MODELS}vgg_ic.py::test_golden_counts_and_the_recipes_names[vgg16-ic-vgg19]": ("vgg16-ic",),
        **_each(f"{_MODELS}vgg_ic.py::test_golden_counts_and_the_recipes_names", "vgg16-mlp", "ic-mlp", after="-"),
        **_each(f"{_MODELS}dsve_systems.py::test_golden_counts_recipe_and_names", *_DSVE),
        **_each(
            f"{_MODELS}feature_mlp.py::test_golden_counts_of_the_heads_and_the_recipes_names",
            *("hmp-mlp", "hmp-mlp-videomem", "colorhist-mlp", "lbp-mlp", "aesthetics-mlp", "inceptionv3-mlp"),
            *("c3d-lbp-aesthetics-mlp", "c3d-hmp-mlp"),
        ),
        f"{_CLIPS}systems.py::test_c3d_mlp[c3d-mlp-relu]": ("c3d-mlp",),
        f"{_CLIPS}systems.py::test_c3d_mlp[c3d-mlp-videomem-tanh]": ("c3d-mlp-videomem",),
        f"{_CLIPS}systems.py::test_resnet3d34": ("resnet3d34",),
        f"{_MODELS}amnet_systems.py::test_counts_of_the_published_networks": ("amnet", "amnet-mean"),
        f"{_MODELS}amnet_systems.py::test_counts_of_the_heads_and_of_vgg": ("amnetvid",),
        f"{_BLOCKS}window_heads.py::test_published_sizes": ("amnet-rnn", "amnetvid"),
        **_each(f"{_MODELS}m3s.py::test_counts_agree_with_the_card_and_names_with_the_recipe", *_M3S),
        "tests/export/test_semantic_memnet.py::test_golden_counts": ("semantic-memnet",),
    },
    "trained": {
        **_each(f"{_EACH}::test_resnets", "resnet18", "resnet101"),
        f"{_TRAIN}cnns.py::test_memnet_learns_standardised_scores_with_all_its_layers": ("memnet",),
        f"{_TRAIN}cnns.py::test_vgg16_ic_trains_its_head_alone": ("vgg16-ic",),
        f"{_TRAIN}cnns.py::test_memnet_svr_stores_training_features_and_trains_one_layer": ("memnet-svr",),
        **_each(f"{_EACH}::test_heads_on_features_of_pictures", "vgg16-mlp", "ic-mlp", "vgg16-svr", "ic-svr"),
        **_each(f"{_EACH}::test_systems_on_dsve", "ic-image", "semantic"),
        f"{_TRAIN}dsve.py::test_ic_image_text_reads_titles_and_trains_its_head_alone": ("ic-image-text",),
        f"{_TRAIN}dsve.py::test_semantic_attention_trains_its_head_and_then_everything": ("semantic-attention",),
        **_each(f"{_TRAIN}features.py::test_trained_on_files", "hmp-mlp-videomem", "colorhist-mlp"),
        **_each(
            f"{_EACH}::test_heads_on_features_of_videos",
            *("hmp-mlp", "lbp-mlp", "aesthetics-mlp", "inceptionv3-mlp", "c3d-lbp-aesthetics-mlp", "c3d-hmp-mlp"),
        ),
        **_each(f"{_TRAIN}clips.py::test_heads_on_released_c3d_vectors", "c3d-mlp", "c3d-mlp-videomem"),
        f"{_TRAIN}clips.py::test_a_head_on_live_c3d_leaves_the_trunk_alone": ("c3d-mlp",),
        f"{_TRAIN}clips.py::test_resnet3d34_trains_its_head_then_everything": ("resnet3d34",),
        **_each(f"{_EACH}::test_amnet", "amnet", "amnet-mean"),
        **_each(f"{_TRAIN}amnet.py::test_heads_learn_on_scores_in_the_sets_range", "amnet-rnn", "amnetvid"),
        f"{_TRAIN}m3s.py::test_every_phase_of_the_recipe": ("m3s",),
        **_each(f"{_EACH}::test_modules_of_m3s", *_M3S),
        f"{_EACH}::test_all_streams_of_semantic_memnet": ("semantic-memnet",),
    },
    "imported": {
        **_each("tests/export/test_resnets.py::test_torchvisions_files", "resnet18", "resnet101"),
        f"{_MODELS}memnet.py::test_public_files": ("memnet",),
        f"{_BLOCKS}alex_lrn.py::test_public_files_fit": ("memnet", "memnet-svr"),
        f"{_MODELS}svr.py::test_an_svr_of_scikit_learn_on_the_networks_features": ("memnet-svr", "vgg16-svr", "ic-svr"),
        f"{_MODELS}vgg_ic.py::test_public_files_find_their_parts": (
            *("vgg16-ic", "vgg16-mlp", "ic-mlp", "vgg16-svr", "ic-svr"),
        ),
        f"{_MODELS}dsve_systems.py::test_a_public_file_goes_into_both_towers": _DSVE,
        f"{_MAPS}dsve.py::test_full_size_names_and_shapes_agree_with_the_public_file": _DSVE,
        f"{_BLOCKS}inception_v3.py::test_a_public_file_s_keys": ("inceptionv3-mlp",),
        f"{_CLIPS}systems.py::test_a_port_of_c3d_says_how_its_last_pooling_pads": _C3D,
        f"{_MAPS}video_maps.py::test_c3d_of_tensorflow": _C3D,
        f"{_CLIPS}systems.py::test_a_public_file_says_its_shortcuts_and_with_them_its_normalisation": ("resnet3d34",),
        f"{_MODELS}amnet_systems.py::test_public_files_of_both_parts": _AMNET,
        f"{_MODELS}m3s.py::test_released_heads": _M3S,
        f"{_MAPS}csail_hrnet.py::test_the_public_file_fits_the_full_network": _WITH_MID,
        f"{_MAPS}video_maps.py::test_vmz_csn": _WITH_HIGH,
        "tests/export/test_semantic_memnet.py::test_public_files_find_their_stream": ("semantic-memnet",),
        f"{_MAPS}video_maps.py::test_i3d_of_keras": ("semantic-memnet",),
        f"{_BLOCKS}dense_net.py::test_names_of_files": ("semantic-memnet",),
    },
    "streamed": {
        **_each(f"tests/export/test_resnets.py::{_OFFLINE}", "resnet18", "resnet101"),
        f"{_MODELS}memnet.py::{_OFFLINE}[options0-has0-lacks0]": ("memnet",),
        **_each(f"{_MODELS}svr.py::{_OFFLINE}", "memnet-svr", "vgg16-svr", "ic-svr", after="-rbf"),
        f"{_MODELS}vgg_ic.py::{_OFFLINE}[vgg16-ic-options0-head.merge.1]": ("vgg16-ic",),
        f"{_MODELS}vgg_ic.py::{_OFFLINE}[vgg16-mlp-options3-head.2]": ("vgg16-mlp",),
        f"{_MODELS}vgg_ic.py::{_OFFLINE}[ic-mlp-options4-head.2]": ("ic-mlp",),
        **_each(
            f"{_MODELS}dsve_systems.py::test_the_rolling_score_is_the_offline_score",
            *("ic-image", "semantic", "semantic-attention"),
            after="-None-None",
        ),
        f"{_MODELS}dsve_systems.py::test_the_rolling_score_is_the_offline_score"
        "[ic-image-text-Dog-RUNS-sideways.webm-words4]": ("ic-image-text",),
        f"{_MODELS}feature_mlp.py::test_streamed_as_scored_offline": ("hmp-mlp-videomem",),
        **{
            f"{_MODELS}feature_mlp.py::test_all_streamed_as_scored_offline[{name}-options{number}]": (name,)
            for number, name in enumerate(
                ("hmp-mlp", "colorhist-mlp", "lbp-mlp", "aesthetics-mlp", "inceptionv3-mlp", *_C3D[2:])
            )
        },
        f"{_CLIPS}streams.py::test_c3d_mlp[c3d-mlp-first]": ("c3d-mlp",),
        f"{_CLIPS}streams.py::test_c3d_mlp[c3d-mlp-videomem-first]": ("c3d-mlp-videomem",),
        f"{_CLIPS}streams.py::test_resnet3d34[B-2d]": ("resnet3d34",),
        f"{_CLIPS}streams.py::test_resnet3d34[B-3d]": ("resnet3d34",),
        f"{_MODELS}amnet_systems.py::test_amnet_streamed_as_torch_scores_offline[amnet-8]": ("amnet",),
        f"{_MODELS}amnet_systems.py::test_amnet_streamed_as_torch_scores_offline[amnet-mean-2]": ("amnet-mean",),
        f"{_MODELS}amnet_systems.py::test_amnet_rnn_streamed_as_torch_scores_offline": ("amnet-rnn",),
        f"{_MODELS}amnet_systems.py::test_amnetvid_streamed_as_torch_scores_offline": ("amnetvid",),
        f"{_MODELS}m3s.py::{_OFFLINE}[True-250000.0]": ("m3s",),
        **_each(f"{_MODELS}m3s_modules.py::{_OFFLINE}", *_MODULES),
        f"tests/export/test_semantic_memnet.py::{_OFFLINE}": ("semantic-memnet",),
    },
}

NO_PUBLIC_FILES = ("hmp-mlp", "hmp-mlp-videomem", "colorhist-mlp", "lbp-mlp", "aesthetics-mlp")
"""Ids without a public checkpoint: small heads on features that no network makes."""
