"""Each data set as a small tree of its published layout."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box
from edge.errors import UserError
from training import data, layouts


def write(folder: Path, *files: str, size: tuple[int, int] = (24, 24)) -> Path:
    """Write an image of noise under each name."""
    for number, file in enumerate(files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), np.uint8)
        assert cv2.imwrite(str(path), noise)
    return folder


def classes(samples: list[data.Sample]) -> dict[str, int]:
    return dict(Counter(s.name for s in samples))


def test_a_folder_that_is_itself_one_of_a_class_is_read(tmp_path: Path) -> None:
    write(tmp_path / "Eosinophils", "1.png", "2.png")
    assert classes(layouts.read(tmp_path / "Eosinophils").samples) == {"eosinophil": 2}


def test_raabin_by_parts_knows_splits_and_films(tmp_path: Path) -> None:
    write(
        tmp_path,
        "Train/Basophil/95-5-3-1_62_2.jpg",
        "Train/Neutrophil/95-5-3-1_63_1.jpg",
        "TestA/Lymphocyte/20190526_162951_0.jpg",
        "TestB/Neutrophil/20190604_173245_1.jpg",
    )
    found = layouts.read(tmp_path)
    assert found.layout == "Raabin-WBC"
    assert [(s.split, s.film) for s in found.samples] == [
        ("test", "20190526"),
        ("test-b", "20190604"),
        ("train", "95-5-3-1"),
        ("train", "95-5-3-1"),
    ]


def test_raabin_crops_in_one_folder_are_recognised_by_their_names(tmp_path: Path) -> None:
    write(tmp_path, "Basophil/95-5-3-1_62_2.jpg", "Eosinophil/95-4-17-1_50_1.jpg", "Monocyte/own.jpg")
    found = layouts.read(tmp_path)
    assert found.layout == "Raabin-WBC"
    assert [s.film for s in found.samples] == ["95-5-3-1", "95-4-17-1", ""]


def test_lisc_takes_its_cells_from_the_masks_and_leaves_mixed_fields_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        "Main Dataset/Baso/1.bmp",
        "Main Dataset/eosi/2.bmp",
        "Main Dataset/mixt/3.bmp",
        size=(72, 57),
    )
    mask = np.zeros((57, 72), np.uint8)
    mask[10:30, 20:50] = 255
    masks = tmp_path / "Ground Truth Segmentation/Baso/areaforexpert1"
    masks.mkdir(parents=True)
    cv2.imwrite(str(masks / "1_expert.bmp"), mask)
    found = layouts.read(tmp_path)
    assert found.layout == "LISC"
    assert classes(found.samples) == {"basophil": 1, "eosinophil": 1}
    assert [s.box for s in found.samples] == [Box(20, 10, 30, 20), None]
    assert "mixt: 1 images" in found.left_out


VOC = "<annotation>{}</annotation>"
CORNERS = "<xmin>10</xmin><ymin>20</ymin><xmax>60</xmax><ymax>70</ymax>"
OBJECT = "<object><name>{}</name><bndbox>" + CORNERS + "</bndbox></object>"


def bccd(folder: Path) -> Path:
    write(folder, *(f"JPEGImages/BloodImage_0000{i}.jpg" for i in range(4)))
    (folder / "Annotations").mkdir()
    for i, kinds in enumerate((["RBC", "WBC"], ["WBC", "WBC"], ["WBC"], ["WBC"])):
        boxes = "".join(OBJECT.format(kind) for kind in kinds)
        (folder / f"Annotations/BloodImage_0000{i}.xml").write_text(VOC.format(boxes))
    (folder / "labels.csv").write_text(
        ',Image,Category\n,0,NEUTROPHIL\n,1,"EOSINOPHIL, EOSINOPHIL"\n'
        ',2,"NEUTROPHIL, BASOPHIL"\n,3,\n,9,MONOCYTE\n'
    )
    return folder


def test_bccd_joins_boxes_and_class_list_where_they_agree(tmp_path: Path) -> None:
    found = layouts.read(bccd(tmp_path))
    assert found.layout == "BCCD"
    assert classes(found.samples) == {"neutrophil": 1, "eosinophil": 2}
    assert found.samples[0].box == Box(10, 20, 50, 50)
    assert len(found.left_out) == 3


def test_bccd_without_its_class_list_is_told(tmp_path: Path) -> None:
    (bccd(tmp_path) / "labels.csv").unlink()
    with pytest.raises(UserError, match=r"without labels\.csv"):
        layouts.read(tmp_path)


@pytest.mark.parametrize("broken", ["<annotation>", VOC.format(OBJECT.format("WBC").replace("10", "inf"))])
def test_a_broken_voc_file_is_named(tmp_path: Path, broken: str) -> None:
    (bccd(tmp_path) / "Annotations/BloodImage_00001.xml").write_text(broken)
    with pytest.raises(UserError, match=r"BloodImage_00001\.xml: not a file of VOC boxes"):
        layouts.read(tmp_path)


def test_zheng_reads_its_labels_by_number(tmp_path: Path) -> None:
    write(tmp_path, "Dataset 1/001.bmp", "Dataset 1/002.bmp", "Dataset 1/001.png", "Dataset 2/001.bmp")
    (tmp_path / "Class Labels of Dataset 1.csv").write_text("image ID,class label\n1,2\n2,1\n3,5\n")
    (tmp_path / "Class Labels of Dataset 2.csv").write_text("image ID,class label\n1,4\n")
    found = layouts.read(tmp_path)
    assert found.layout == "Zheng et al., set 1 and 2"
    assert [(s.source, s.name) for s in found.samples] == [
        ("zheng1", "lymphocyte"),
        ("zheng1", "neutrophil"),
        ("zheng2", "eosinophil"),
    ]
    assert len(found.left_out) == 1
    (tmp_path / "Class Labels of Dataset 2.csv").write_text("image ID,class label\n1,6\n")
    with pytest.raises(UserError, match=r"Dataset 2\.csv, line 2: class label '6' is not 1 to 5"):
        layouts.read(tmp_path)


@pytest.mark.parametrize("number", ["abc", "", "-1", "²"])
def test_a_number_that_is_none_is_told_with_its_line(tmp_path: Path, number: str) -> None:
    zheng, other = write(tmp_path / "zheng", "Dataset 1/001.bmp"), bccd(tmp_path / "bccd")
    (zheng / "Class Labels of Dataset 1.csv").write_text(f"image ID,class label\n{number},2\n")
    (other / "labels.csv").write_text(f",Image,Category\n,{number},NEUTROPHIL\n")
    for folder in (zheng, other):
        with pytest.raises(UserError, match=f"csv, line 2: '{number}' is no number of an image"):
            layouts.read(folder)


def test_pbc_is_recognised_by_its_file_names(tmp_path: Path) -> None:
    write(
        tmp_path, "neutrophil/SNE_1.jpg", "ig/MMY_2.jpg", "erythroblast/ERB_3.jpg", "platelet/PLATELET_4.jpg"
    )
    found = layouts.read(tmp_path)
    assert found.layout == "PBC"
    assert classes(found.samples) == {
        "erythroblast": 1,
        "immature_granulocyte": 1,
        "neutrophil": 1,
        "platelet": 1,
    }


def test_the_augmented_bccd_is_recognised_and_warned_of(tmp_path: Path) -> None:
    write(
        tmp_path,
        "TRAIN/EOSINOPHIL/_0_207.jpeg",
        "TEST/MONOCYTE/_2_5.jpeg",
        "TEST_SIMPLE/NEUTROPHIL/_3_1.jpeg",
    )
    found = layouts.read(tmp_path)
    assert "12,444" in found.layout
    assert "copies of one image" in found.layout
    assert sorted(s.split for s in found.samples) == ["test", "test-simple", "train"]


def test_all_idb_needs_a_list_of_classes(tmp_path: Path) -> None:
    folder = write(tmp_path / "ALL_IDB2", "img/Im001_1.tif", "img/Im131_0.tif")
    with pytest.raises(UserError, match=r"ALL-IDB tells lymphoblasts .* classes\.csv"):
        layouts.read(folder)
    (folder / "classes.csv").write_text("file,class\nimg/Im131_0.tif,lymphocyte\n")
    assert [s.name for s in layouts.read(folder).samples] == ["lymphocyte"]


def test_a_list_may_have_the_cells_boxes(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    table = tmp_path / "cells.csv"
    table.write_text("file,class,film,x,y,w,h\na.png,monocyte,7,1.5,2,20,18\nb.png,monocyte,7,,,,\n")
    boxed, plain = layouts.read(tmp_path).samples
    assert (boxed.box, boxed.film) == (Box(1.5, 2, 20, 18), "7")
    assert plain.box is None


@pytest.mark.parametrize("box", ["1,2,0,5", "1,2,5,", "1,2,inf,5", "nan,2,5,5", "a,b,c,d"])
def test_a_box_of_a_list_that_is_no_box_is_named(tmp_path: Path, box: str) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "cells.csv").write_text(f"file,class,x,y,w,h\na.png,monocyte,{box}\n")
    with pytest.raises(UserError, match=r"cells\.csv, line 2: x, y, w, h of a\.png must be numbers"):
        layouts.read(tmp_path)


def test_misp_is_a_folder_for_each_class(tmp_path: Path) -> None:
    folder = write(tmp_path / "MISP", "Eosinophils/1.jpg", "Monocytes/2.jpg")
    found = layouts.read(folder)
    assert (found.layout, found.samples[0].source) == ("MISP", "misp")


def test_txl_pbc_has_boxes_but_serves_no_classifier(tmp_path: Path) -> None:
    write(tmp_path, "images/train/a.png", "images/test/b.png", size=(100, 50))
    for file in ("train/a.txt", "test/b.txt"):
        path = tmp_path / "labels" / file
        path.parent.mkdir(parents=True)
        path.write_text("0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.1 0.1\n")
    found = layouts.read(tmp_path)
    assert (found.layout, classes(found.samples)) == ("TXL-PBC", {"leukocyte": 2, "erythrocyte": 2})
    assert found.samples[0].box == Box(40, 15, 20, 20)
    with pytest.raises(UserError, match="erythrocyte, leukocyte: its boxes are"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        *(f"{kind} 0.5 0.5 0.2 0.4" for kind in ("7", "-1", "0.5", "inf", "nan")),
        "0 0.5 nan 0.2 0.4",
        "0 0.5 0.5 inf 0.4",
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 \xff",
    ],
)
def test_a_bad_line_of_boxes_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_bytes(f"0 0.5 0.5 0.2 0.4\n{line}\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.txt, line 2: not a class 0 to 2 and four shares"):
        layouts.read(tmp_path)


def test_unknown_folders_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "neutrophil/1.png", "blast/2.png", "blast/3.png", "smudge/4.png")
    with pytest.raises(UserError, match=r"called blast \(2 images\), smudge \(1 images\); rename"):
        layouts.read(tmp_path)


def test_a_class_without_an_image_is_told(tmp_path: Path, capsys) -> None:
    write(tmp_path, "neutrophil/1.png")
    (tmp_path / "Basophils").mkdir()
    assert len(data.load(tmp_path)) == 1
    assert "Basophils: a class without an image" in capsys.readouterr().err


def test_masks_and_hidden_files_are_no_cells(tmp_path: Path) -> None:
    masks = (f"neutrophil/1{ending}.png" for ending in ("_mask", "-Masks", "_GT"))
    write(tmp_path, "neutrophil/1.jpg", "neutrophil/2_seg.jpg", *masks, ".cache/2.png")
    assert [s.file for s in layouts.read(tmp_path).samples] == ["neutrophil/1.jpg", "neutrophil/2_seg.jpg"]


@pytest.mark.parametrize("mask", ["monocyte/masks/1.png", "Ground Truth/monocyte/1.png", "GT/monocyte/1.png"])
def test_a_folder_of_masks_is_left_out_and_told(tmp_path: Path, mask: str) -> None:
    write(tmp_path, "monocyte/1.png", mask)
    found = layouts.read(tmp_path)
    assert [s.file for s in found.samples] == ["monocyte/1.png"]
    assert len(found.left_out) == 1
    assert found.left_out[0].endswith(": 1 images")


def test_pictures_of_an_unread_kind_are_named_with_the_unreadable(tmp_path: Path) -> None:
    write(tmp_path, "monocyte/a.png")
    for name in ("b.GIF", "c.ppm", "Thumbs.db"):
        (tmp_path / "monocyte" / name).write_bytes(b"something")
    found = layouts.read(tmp_path)
    assert found.left_out == ["1 files of another kind (.db)"]
    assert data.readable(found.samples)[1] == ["monocyte/b.GIF", "monocyte/c.ppm"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class,source,split\na.png,blast,x,train\n", "line 2: class 'blast' of a.png"),
        ("file,subtype\na.png,x\n", "column class is missing"),
        ("file,class\na.png\n", "line 2: fewer fields than columns"),
        ("file,class\n", "without a labelled image"),
        ("file,class\n\ud800", "not a table of text"),
    ],
)
def test_a_bad_list_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cells.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=message):
        layouts.read(tmp_path)


def test_nothing_recognised_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data set is recognised"):
        layouts.read(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        layouts.read(tmp_path / "absent")


def test_a_field_that_was_cut_short_is_named(tmp_path: Path) -> None:
    image = write(tmp_path, "images/train/a.jpg") / "images/train/a.jpg"
    image.write_bytes(image.read_bytes()[:-20])
    labels = tmp_path / "labels/train/a.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(UserError, match=r"a\.jpg: not a readable image \(cut short"):
        layouts.read(tmp_path)


@pytest.mark.parametrize(
    ("named", "split"),
    [
        ("Training", "train"),
        ("train_set", "train"),
        ("Val", "validation"),
        ("Testing", "test"),
        ("TEST", "test"),
        ("LISC_train", "train"),
        ("test cells", "test"),
        ("TrainingDataset", "train"),
        ("wbc_val", "validation"),
        ("evaluation", "test"),
        ("Raabin_TestB", "test-b"),
        ("TestB_crops", "test-b"),
    ],
)
def test_parts_are_known_by_what_they_are_usually_called(tmp_path: Path, named: str, split: str) -> None:
    tree, listed = tmp_path / "tree", tmp_path / "list"
    write(tree, f"{named}/monocyte/a.png")
    write(listed, "a.png")
    (listed / "cells.csv").write_text(f"file,class,split\na.png,monocyte,{named}\n")
    assert [layouts.read(folder).samples[0].split for folder in (tree, listed)] == [split, split]


def test_of_parts_in_each_other_the_inner_one_holds(tmp_path: Path) -> None:
    write(tmp_path, "Training data/Train/monocyte/a.png", "Training data/Test/monocyte/b.png")
    assert [s.split for s in layouts.read(tmp_path).samples] == ["test", "train"]


def test_a_folder_of_a_class_may_name_its_part_too(tmp_path: Path) -> None:
    write(tmp_path, "train_monocyte/a.png", "test_monocyte/b.png")
    assert [(s.name, s.split) for s in layouts.read(tmp_path).samples] == [
        ("monocyte", "test"),
        ("monocyte", "train"),
    ]


@pytest.mark.parametrize("lab", ["Test Laboratory", "Val d'Aosta", "Bad Homburg", "other laboratory"])
def test_a_laboratory_may_be_called_nearly_anything(tmp_path: Path, lab: str) -> None:
    places = [f"{name}/{place}" for place in (lab, "Kassel") for name in ("mono", "lymph")]
    assert len(sources(tmp_path, *places, images=25)) == 2
    assert {s.split for s in layouts.read(tmp_path).samples} == {""}


@pytest.mark.parametrize("other", ["Blasts", "artifacts", "smudge cells", "Unknown"])
def test_what_is_of_no_class_below_one_is_refused_by_name(tmp_path: Path, other: str) -> None:
    write(tmp_path, "erythroblast/ward/a.png", f"lymphocyte/{other}/b.png")
    with pytest.raises(UserError, match=rf"no class of the model is called {other} \(1 images\)"):
        layouts.read(tmp_path)


def test_a_run_inside_the_data_is_no_data(tmp_path: Path) -> None:
    write(tmp_path, "monocyte/a.png", "run/rendered/b.png", "run/figures/c.png")
    for file in ("recipe.json", "run/recipe.json", "run/split.csv"):
        (tmp_path / file).write_text("{}")
    assert [s.file for s in layouts.read(tmp_path).samples] == ["monocyte/a.png"]


def test_a_name_that_no_report_can_hold_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "monocyte/a.png")
    (tmp_path / "monocyte/a.png").rename(tmp_path / "monocyte" / "\udce9.png")
    with pytest.raises(UserError, match=r"monocyte/.udce9\.png: its name is not UTF-8"):
        layouts.read(tmp_path)


def test_a_part_of_another_name_in_a_list_stays_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "cells.csv").write_text("file,class,split\na.png,monocyte,other-laboratory\n")
    assert layouts.read(tmp_path).samples[0].split == "other-laboratory"


def test_linked_folders_and_every_kind_of_image_are_read_and_other_files_told(tmp_path: Path) -> None:
    write(tmp_path / "far", "a.webp", "b.png")
    (tmp_path / "far/c.jfif").write_bytes(cv2.imencode(".jpg", np.zeros((24, 24, 3), np.uint8))[1].tobytes())
    (tmp_path / "far/d.txt").write_bytes(b"text")
    write(tmp_path / "set", "lymphocyte/a.jpg")
    (tmp_path / "set/monocyte").symlink_to(tmp_path / "far")
    (tmp_path / "set/monocyte/again").symlink_to(tmp_path / "set")  # a ring
    found = layouts.read(tmp_path / "set")
    assert classes(found.samples) == {"lymphocyte": 1, "monocyte": 3}
    assert found.left_out == ["1 files of another kind (.txt)"]


def sources(folder: Path, *places: str, images: int) -> dict[str, int]:
    """Return the number of images by source, of a tree of so many (empty files) at each place."""
    for place in places:
        (folder / place).mkdir(parents=True)
        for number in range(images):
            (folder / place / f"{number}.png").touch()
    return dict(Counter(s.source for s in layouts.read(folder).samples))


@pytest.mark.parametrize(
    "place", ["{lab}/train/{name}", "{lab}/{name}", "Test/{lab}/{name}", "{name}/{lab}", "{name}/{lab}/Test"]
)
def test_what_is_no_class_and_no_part_tells_laboratories_apart(tmp_path: Path, place: str) -> None:
    places = [place.format(lab=lab, name=name) for lab in ("Lab A", "Lab B") for name in ("mono", "lymph")]
    assert sources(tmp_path, *places, images=25) == {"lab-a": 50, "lab-b": 50}


def test_a_folder_of_all_images_is_no_laboratory(tmp_path: Path) -> None:
    places = ("Main Dataset/monocyte", "Main Dataset/lymphocyte")
    assert sources(tmp_path / "one", *places, images=30) == {"one": 60}


def test_patients_are_one_laboratory_but_a_small_one_beside_a_large_is_its_own(tmp_path: Path) -> None:
    patients = [f"patient {n}/{name}" for n in range(4) for name in ("monocyte", "lymphocyte")]
    assert sources(tmp_path / "Ward", *patients, images=10) == {"ward": 80}
    large = [f"large/{n}/{name}" for n in ("a", "b") for name in ("monocyte", "lymphocyte")]
    assert sources(tmp_path / "two", *large, images=25) == {"large-a": 50, "large-b": 50}
    (tmp_path / "two/small/monocyte").mkdir(parents=True)
    (tmp_path / "two/small/monocyte/1.png").touch()
    (tmp_path / "two/small/lymphocyte").mkdir()
    (tmp_path / "two/small/lymphocyte/1.png").touch()
    assert {s.source for s in layouts.read(tmp_path / "two").samples} == {"large-a", "large-b", "small"}


def test_subtypes_are_no_laboratories(tmp_path: Path) -> None:
    places = ("neutrophil/Segmented", "neutrophil/band", "monocyte")
    assert sources(tmp_path / "own", *places, images=60) == {"own": 180}


def test_raabins_second_test_part_is_another_laboratory(tmp_path: Path) -> None:
    places = [f"{part}/{name}" for part in ("Train", "TestA", "Test-B") for name in ("Monocyte", "Basophil")]
    assert sources(tmp_path / "Raabin", *places, images=25) == {"raabin": 100, "test-b": 50}


def test_folders_of_two_classes_in_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "lymphocyte/seg/a.png")
    with pytest.raises(UserError, match=r"seg/a\.png: its folders name several classes"):
        layouts.read(tmp_path)


@pytest.mark.parametrize("given", ["", "LISC", "LISC/Main Dataset"])
def test_lisc_has_its_masks_whichever_of_its_folders_is_given(tmp_path: Path, given: str) -> None:
    write(tmp_path, "LISC/Main Dataset/Baso/1.bmp", size=(72, 57))
    mask = np.zeros((57, 72), np.uint8)
    mask[10:30, 20:50] = 255
    file = tmp_path / "LISC/Ground Truth Segmentation/Baso/areaforexpert1/1_expert.bmp"
    file.parent.mkdir(parents=True)
    assert cv2.imwrite(str(file), mask)
    assert layouts.read(tmp_path / given).samples[0].box == Box(20, 10, 30, 20)
