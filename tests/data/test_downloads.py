import json
import re
import zlib
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from dicom_files import rectangle, write_rt_struct, write_series
from PIL import Image

from medssl.__main__ import main
from medssl.data import load_manifest
from medssl.data.recipes import choose, from_recipe, read_recipe
from medssl.readers import read_scan
from medssl.resources import resource

RECIPES = sorted(path.stem for path in resource("data_manifests/recipes").glob("*.yaml"))
SHAPE, AFFINE = (6, 5, 4), np.diag([-0.8, -0.8, 5.0, 1.0])
TOTAL = [str(name) for name in read_recipe("totalsegmentator")["labels"].values()]
TOTAL_MR = [str(name) for name in read_recipe("totalsegmentator_mr")["labels"].values()]
RP_NET = "Large Bowel,Duodenum,Spinal Cord,Liver,Spleen,Small Bowel,Pancreas,Kidney L,Kidney R,Stomach,Gallbladder"
UANET = "Brain Stem,Mandible,Optical Chiasm,Optical Nerve L,Optical Nerve R,Parotid L,Parotid R,SmgL,SmgR,Eye-L"
PDDCA = "BrainStem,Chiasm,Mandible,OpticNerve_L,OpticNerve_R,Parotid_L,Parotid_R,Submandibular_L,Submandibular_R"
HAN_SEG = (
    "A_Carotid_L,A_Carotid_R,Arytenoid,Bone_Mandible,Brainstem,BuccalMucosa,Cavity_Oral,Cochlea_L,"
    "Cochlea_R,Cricopharyngeus,Esophagus_S,Eye_AL,Eye_AR,Eye_PL,Eye_PR,Glnd_Lacrimal_L,Glnd_Lacrimal_R,"
    "Glnd_Submand_L,Glnd_Submand_R,Glnd_Thyroid,Glottis,Larynx_SG,Lips,OpticChiasm,OpticNrv_L,OpticNrv_R,"
    "Parotid_L,Parotid_R,Pituitary,SpinalCord"
)


def ids(number):
    """A label map of the ids 0 to ``number``."""
    return range(number + 1)


def files(pattern, names):
    """A mask of one voxel, another one each, for each of some organs."""
    return {pattern.format(name): number for number, name in enumerate(names)}


# By recipe: images and labels as the data set is downloaded, with what label files hold; how many organs; how many
# cases are labelled, how many are not.
TREES = {
    "abd_110": (
        {"standard/PA002/img.nrrd": None, **files("standard/PA002/structures/{}.nrrd", RP_NET.split(","))},
        *(11, 1, 0),
    ),
    "abdomenct_1k": (
        {
            "AbdomenCT-1K-ImagePart1/Case_00001_0000.nii.gz": None,
            "AbdomenCT-1K-ImagePart3/AbdomenCT-1K-ImagePart3/Case_01062_0000.nii.gz": None,
            "Mask/Case_00001.nii.gz": ids(4),
        },
        *(4, 1, 1),
    ),
    "amos22_ct": (
        {
            "amos22/imagesTr/amos_0001.nii.gz": None,
            "amos22/labelsTr/amos_0001.nii.gz": ids(15),
            "amos22/imagesTr/amos_0507.nii.gz": None,  # MR
            "amos22/labelsTr/amos_0507.nii.gz": ids(15),
            "amos22/imagesVa/amos_0008.nii.gz": None,
            "amos22/labelsVa/amos_0008.nii.gz": ids(15),
            "amos22/imagesTs/amos_0003.nii.gz": None,
            "amos_unlabeled_ct_5400_5899/amos_5437.nii.gz": None,  # known to be bad
            "amos22_unlabeled_6200_6899/amos_6200.nii.gz": None,
        },
        *(15, 2, 2),
    ),
    "amos22_mr": (
        {
            "amos22/imagesTr/amos_0001.nii.gz": None,  # CT
            "amos22/labelsTr/amos_0001.nii.gz": ids(15),
            "amos22/imagesTr/amos_0507.nii.gz": None,
            "amos22/labelsTr/amos_0507.nii.gz": ids(15),
        },
        *(15, 1, 0),
    ),
    "btcv": (
        {
            "RawData/Training/img/img0001.nii.gz": None,
            "RawData/Training/label/label0001.nii.gz": ids(13),
            "RawData/Testing/img/img0061.nii.gz": None,
        },
        *(13, 1, 1),
    ),
    "chaos_ct": (
        {
            "Train_Sets/CT/1/DICOM_anon/": None,
            "Train_Sets/CT/1/Ground/": [0, 255],
            "Train_Sets/MR/1/T2SPIR/DICOM_anon/": None,
            "Test_Sets/CT/3/DICOM_anon/": None,
        },
        *(1, 1, 1),
    ),
    "chaos_mr": (
        {
            "Train_Sets/MR/1/T2SPIR/DICOM_anon/": None,
            "Train_Sets/MR/1/T2SPIR/Ground/": [0, 63, 126, 189, 252],
            "Train_Sets/MR/1/T1DUAL/DICOM_anon/InPhase/": None,
            "Test_Sets/MR/4/T2SPIR/DICOM_anon/": None,
        },
        *(4, 1, 1),
    ),
    "flare22": (
        {
            "Training/FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz": None,
            "Training/FLARE22_LabeledCase50/labels/FLARE22_Tr_0001.nii.gz": ids(13),
            "Training/FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz": None,
            "Validation/FLARETs_0001_0000.nii.gz": None,
        },
        *(13, 1, 2),
    ),
    "han": (
        {"raw/HN-CHUS-001/img.nrrd": None, **files("raw/HN-CHUS-001/structures/{}.nrrd", UANET.split(","))},
        *(9, 1, 0),
    ),
    "han_seg": (
        {
            "HaN-Seg/set_1/case_01/case_01_IMG_CT.nrrd": None,
            "HaN-Seg/set_1/case_01/case_01_IMG_MR_T1.nrrd": None,
            **files("HaN-Seg/set_1/case_01/case_01_OAR_{}.seg.nrrd", HAN_SEG.split(",")),
        },
        *(30, 1, 0),
    ),
    "lctsc": (
        {
            "manifest-1557326747206/LCTSC/LCTSC-Test-S1-101/03-03-2004-08186/79262/": None,
            "manifest-1557326747206/LCTSC/LCTSC-Test-S1-101/03-03-2004-08186/56597/1-1.dcm": (
                ["Esophagus", "Heart", "Lung_L", "Lung_R", "SpinalCord"]
            ),
        },
        *(5, 1, 0),
    ),
    "mm_whs_ct": (
        {
            "MM-WHS 2017 Dataset/ct_train/ct_train_1001_image.nii.gz": None,
            "MM-WHS 2017 Dataset/ct_train/ct_train_1001_label.nii.gz": [0, 205, 420, 500, 550, 600, 820, 850],
            "MM-WHS 2017 Dataset/ct_test/ct_test_2001_image.nii.gz": None,
            "MM-WHS 2017 Dataset/mr_train/mr_train_1001_image.nii.gz": None,
        },
        *(7, 1, 1),
    ),
    "mm_whs_mr": (
        {
            "MM-WHS 2017 Dataset/mr_train/mr_train_1010_image.nii.gz": None,
            "MM-WHS 2017 Dataset/mr_train/mr_train_1010_label.nii.gz": [0, 205, 420, 421, 500, 550, 600, 820, 850],
        },
        *(7, 1, 0),
    ),
    "msd_hippocampus": (
        {
            **{f"Task04_Hippocampus/imagesTr/hippocampus_{number}.nii.gz": None for number in ("001", "003", "004")},
            **{f"Task04_Hippocampus/labelsTr/hippocampus_{number}.nii.gz": ids(2) for number in ("001", "003", "004")},
            "Task04_Hippocampus/imagesTr/._hippocampus_001.nii.gz": None,
            "Task04_Hippocampus/imagesTs/hippocampus_002.nii.gz": None,
        },
        *(2, 3, 1),
    ),
    "pddca": (
        {
            "PDDCA-1.4.1_part1/0522c0001/img.nrrd": None,
            **files("PDDCA-1.4.1_part1/0522c0001/structures/{}.nrrd", PDDCA.split(",")),
        },
        *(9, 1, 0),
    ),
    "segthor": (
        {
            "train/Patient_01/Patient_01.nii.gz": None,
            "train/Patient_01/GT.nii.gz": ids(4),
            "test/Patient_41.nii.gz": None,
        },
        *(4, 1, 1),
    ),
    "thorax_85": (
        {
            "1/img.nrrd": None,
            **files("1/structures/{}.nrrd", ["Esophagus", "Trachea", "Spinal Cord", "Lung L", "Lung R", "Heart"]),
        },
        *(6, 1, 0),
    ),
    "totalsegmentator": (
        {"v201/s0000/ct.nii.gz": None, **files("v201/s0000/segmentations/{}.nii.gz", TOTAL[1:]), "v201/meta.csv": ""},
        *(117, 1, 0),
    ),
    "totalsegmentator_mr": (
        {"s0001/mri.nii.gz": None, **files("s0001/segmentations/{}.nii.gz", TOTAL_MR[1:])},
        *(50, 1, 0),
    ),
    "word": (
        {
            "WORD-V0.1.0/imagesTr/word_0002.nii.gz": None,
            "WORD-V0.1.0/labelsTr/word_0002.nii.gz": ids(16),
            "WORD-V0.1.0/imagesVal/word_0001.nii.gz": None,
            "WORD-V0.1.0/labelsVal/word_0001.nii.gz": ids(16),
            "WORD-V0.1.0/imagesTs/word_0014.nii.gz": None,
            "WORD-V0.1.0/scribblesTr/word_0002.nii.gz": ids(16),
        },
        *(16, 2, 1),
    ),
}


def grow(root, tree):
    """Write the files of a tree."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(zlib.crc32(name.encode()))
        if isinstance(content, str):
            path.write_text(content)
        elif name.endswith(".dcm"):
            contours = {organ: [rectangle((n - 0.5, 0.5), (n + 0.5, 2.5), 1)] for n, organ in enumerate(content)}
            write_rt_struct(path, contours, np.diag([-0.5, -0.5, 2.0, 1.0]), series="1.2.5")
        elif name.endswith("/") and content is None:
            write_series(path, depth=4, uid="1.2.5")
        elif name.endswith("/"):
            path.mkdir()
            for number in range(4):
                pixels = np.resize(content, (6, 7)).astype(np.uint8)
                Image.fromarray(pixels).save(path / f"IMG-{number}.png")
        elif isinstance(content, int):
            save(path, (np.arange(np.prod(SHAPE)) == content).reshape(SHAPE).astype(np.int16))
        else:
            values = draw.integers(-900, 900, SHAPE) if content is None else np.resize(list(content), SHAPE)
            save(path, values.astype(np.int16))


def save(path, voxels):
    if path.name.endswith(".nrrd"):
        image = SimpleITK.GetImageFromArray(voxels.T)
        image.SetSpacing((0.8, 0.8, 5.0))
        SimpleITK.WriteImage(image, str(path))
    else:
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)


def test_every_recipe_has_its_tree():
    assert sorted([*TREES, "acdc"]) == RECIPES


@pytest.mark.parametrize("name", TREES)
def test_a_download_becomes_a_manifest(name, tmp_path):
    tree, organs, labelled, unlabelled = TREES[name]
    grow(tmp_path, tree)
    assert main(["manifest", "recipe", name, str(tmp_path), "--workers", "1"]) == 0
    manifest = load_manifest(tmp_path / "manifest.json")
    assert len(manifest.labels) == organs + 1
    records = [*manifest.training, *manifest.validation, *manifest.test, *manifest.unlabeled]
    assert sum("label" in record for record in records) == labelled
    assert sum("label" not in record for record in records) == unlabelled
    found = {id for record in records if "label" in record for id in np.unique(read_scan(record["label"]).dataobj)}
    assert found == set(range(organs + 1))


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as threads:
        yield threads


def test_frames_of_a_cine_series_are_volumes_but_for_those_that_are_labelled(tmp_path, executor):
    (tmp_path / "patient001").mkdir()
    frames = np.zeros((4, 4, 3, 14), dtype=np.int16)
    nib.save(nib.Nifti1Image(frames, AFFINE), tmp_path / "patient001" / "patient001_4d.nii.gz")
    facts = from_recipe(read_recipe("acdc"), tmp_path, executor)
    assert len(facts["training"]) == 200
    assert [record["frame"] for record in facts["unlabeled"]] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14]
    assert facts["unlabeled"][0] == {
        "case_id": "patient001_frame02",
        "subject_id": "patient001",
        "image": "patient001/patient001_4d.nii.gz",
        "frame": 2,
    }
    assert facts["duplicates"] == [["patient074", "patient076"]]


def test_what_belongs_to_one_person_stays_together(tmp_path, executor):
    grow(tmp_path, TREES["msd_hippocampus"][0])
    facts = from_recipe(read_recipe("msd_hippocampus"), tmp_path, executor)
    subjects = {record["case_id"]: record["subject_id"] for record in facts["training"] + facts["unlabeled"]}
    assert subjects["hippocampus_001"] == subjects["hippocampus_002"] != subjects["hippocampus_003"]
    assert subjects["hippocampus_003"] == subjects["hippocampus_004"]


def test_a_stray_id_is_one_slip_of_the_pen_and_an_organ_without_a_file_unknown(tmp_path, executor):
    grow(tmp_path / "hearts", TREES["mm_whs_mr"][0])
    (record,) = from_recipe(read_recipe("mm_whs_mr"), tmp_path / "hearts", executor)["training"]
    values = np.resize([0, 205, 420, 421, 500, 550, 600, 820, 850], SHAPE)
    label = np.asanyarray(read_scan(tmp_path / "hearts" / record["label"]).dataobj)
    assert set(label[values == 420]) == set(label[values == 421]) == {2}
    tree = {name: content for name, content in TREES["pddca"][0].items() if "Mandible" not in name}
    grow(tmp_path / "heads", tree | files("second/structures/{}.nrrd", PDDCA.split(",")) | {"second/img.nrrd": None})
    records = from_recipe(read_recipe("pddca"), tmp_path / "heads", executor)["training"]
    assert {record["case_id"]: record.get("known_classes") for record in records} == {
        "0522c0001": [1, 3, 4, 5, 6, 7, 8, 9],
        "second": None,
    }


def test_some_organs_of_many_are_numbered_as_they_are_named(tmp_path, caplog):
    grow(tmp_path, {"s0000/ct.nii.gz": None, **files("s0000/segmentations/{}.nii.gz", ("colon", "duodenum", "heart"))})
    command = ["manifest", "recipe", "totalsegmentator", str(tmp_path), "--workers", "1", "--labels", "background"]
    assert main([*command, "duodenum", "livre"]) == 1
    assert "labels must be among background, spleen, kidney_right," in caplog.text
    assert main([*command, "duodenum", "colon"]) == 0
    assert load_manifest(tmp_path / "manifest.json").labels == {0: "background", 1: "duodenum", 2: "colon"}


def test_chosen_ids_of_a_label_map_become_consecutive(tmp_path, executor):
    grow(tmp_path, TREES["btcv"][0])
    recipe = choose(read_recipe("btcv"), ["background", "liver", "spleen"])
    (record,) = from_recipe(recipe, tmp_path, executor)["training"]
    label = np.asanyarray(read_scan(tmp_path / record["label"]).dataobj)
    values = np.resize(ids(13), SHAPE)
    np.testing.assert_array_equal(label, np.select([values == 6, values == 1], [1, 2]))


def test_known_bad_cases_and_duplicates_that_are_not_there_are_left_out(tmp_path, executor, caplog):
    grow(tmp_path, TREES["amos22_ct"][0])
    facts = from_recipe(read_recipe("amos22_ct"), tmp_path, executor)
    assert "amos_5437 is known to be bad: left out" in caplog.text
    assert [record["case_id"] for record in facts["unlabeled"]] == ["amos_0003", "amos_6200"]
    grow(tmp_path / "part", TREES["abdomenct_1k"][0])
    assert from_recipe(read_recipe("abdomenct_1k"), tmp_path / "part", executor)["duplicates"] == []


def test_a_recipe_of_ones_own_is_a_file(tmp_path, caplog):
    grow(tmp_path, TREES["segthor"][0])
    own = tmp_path / "own.yaml"
    own.write_text(f"based_on: {resource('data_manifests/recipes/segthor.yaml')}\nname: ours\nspacing: [null, 2, 2]\n")
    assert main(["manifest", "recipe", str(own), str(tmp_path), "--workers", "1"]) == 0
    assert json.loads((tmp_path / "manifest.json").read_text())["spacing"] == [None, 2, 2]
    assert main(["manifest", "recipe", "kits", str(tmp_path), "--output", str(tmp_path / "kits.json")]) == 1
    assert "no recipe 'kits'; medssl ships abd_110, abdomenct_1k, acdc" in caplog.text
    assert main(["manifest", "recipe", "btcv", str(tmp_path), "--output", str(tmp_path / "btcv.json")]) == 1
    assert "fits '**/Training/img/img{case}.nii.gz'; it holds" in caplog.text


def test_the_readme_names_every_recipe_and_its_organs():
    readme = resource("data_manifests/README.md").read_text()
    for name in RECIPES:
        assert re.search(rf"\| `{name}` \| .* \| {len(read_recipe(name)['labels']) - 1} \|", readme), name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {0: background", "is no YAML"),
        ("name: ours", "must have a layout, the patterns of images and labels, it has name"),
        ("ours", "must hold the keys of a manifest, it holds 'ours'"),
    ],
)
def test_what_is_no_recipe_says_why(text, message, tmp_path, caplog):
    (tmp_path / "own.yaml").write_text(text)
    assert main(["manifest", "recipe", str(tmp_path / "own.yaml"), str(tmp_path)]) == 1
    assert message in caplog.text


def test_organs_are_those_of_the_labels_and_slices_need_them(tmp_path, executor):
    grow(tmp_path, TREES["chaos_ct"][0])
    recipe = read_recipe("chaos_ct")
    with pytest.raises(ValueError, match="organs must name the ids of labels but 0, they differ in 2"):
        from_recipe(recipe | {"organs": {1: [255], 2: [1]}}, tmp_path, executor)
    del recipe["organs"]
    with pytest.raises(ValueError, match="labels of slices have grey values: a recipe with organs"):
        from_recipe(recipe, tmp_path, executor)


def test_a_data_set_is_joined_again_beside_what_was_joined(tmp_path):
    grow(tmp_path, TREES["abdomenct_1k"][0])
    command = ["manifest", "recipe", "abdomenct_1k", str(tmp_path), "--workers", "1"]
    for number, organ in enumerate(("liver", "spleen")):
        assert main([*command, "--labels", "background", organ, "--output", str(tmp_path / f"{number}.json")]) == 0
    first, second = (load_manifest(tmp_path / f"{number}.json", tmp_path).training[0]["label"] for number in range(2))
    assert first != second
