"""Whose scan it is: the layouts of public collections, names of a clinic, and what a pattern says."""

from __future__ import annotations

from pathlib import Path

import pytest

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.volumes.subjects import guess_subjects


def guess(*names: str, pattern: str | None = None, base: str = "data") -> list[str]:
    return [one.name for one in guess_subjects([Path(base, name) for name in names], Path(base), pattern)]


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("002_S_0413/MPRAGE/2006-05-02_12_31_52.0/I13722/ADNI_002_S_0413_MR_MPRAGE_br_raw_20060502.nii", "002_S_0413"),
        ("ADNI/011_S_10021/3D_T1/x.nii.gz", "011_S_10021"),
        ("MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_t1ce.nii", "BraTS20_Training_001"),
        ("HGG/BraTS19_CBICA_AAB_1/BraTS19_CBICA_AAB_1_flair.nii.gz", "BraTS19_CBICA_AAB"),
        ("Brats18_TCIA01_147_1/Brats18_TCIA01_147_1_t2.nii.gz", "Brats18_TCIA01_147"),
        ("BraTS2021_00005/BraTS2021_00005_t1.nii.gz", "BraTS2021_00005"),
        ("BraTS-GLI-00005-100/BraTS-GLI-00005-100-t1n.nii.gz", "BraTS-GLI-00005"),
        ("BraTS-GLI-00005-101-t1n.nii.gz", "BraTS-GLI-00005"),
        ("BraTS-MEN-RT-0012-1/BraTS-MEN-RT-0012-1_t1c.nii.gz", "BraTS-MEN-RT-0012"),
        ("disc1/OAS1_0001_MR1/RAW/OAS1_0001_MR1_mpr-1_anon.nii", "OAS1_0001"),
        ("disc1/OAS1_0001_MR2/PROCESSED/OAS1_0001_MR2_mpr_n4_anon_111_t88_gfc.nii", "OAS1_0001"),
        ("OAS2_0001_MR2/RAW/mpr-1.nii", "OAS2_0001"),
        ("OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_T1w.nii.gz", "OAS30001"),
        ("sub-OAS30001/ses-d2430/anat/sub-OAS30001_ses-d2430_T1w.nii.gz", "OAS30001"),
        ("images_structural/UPENN-GBM-00006_11/UPENN-GBM-00006_11_T1.nii.gz", "UPENN-GBM-00006"),
        ("images_structural/UPENN-GBM-00006_21/UPENN-GBM-00006_21_FLAIR.nii.gz", "UPENN-GBM-00006"),
        ("UCSF-PDGM-0429_FU003d_nifti/UCSF-PDGM-0429_FU003d_T1.nii.gz", "UCSF-PDGM-0429"),
        ("TCGA-02-0006/1996.08.23/TCGA-02-0006_1996.08.23_t1.nii.gz", "TCGA-02-0006"),
        ("IXI002-Guys-0828-T1.nii.gz", "IXI002-Guys-0828"),
        ("IXI-T2/IXI002-Guys-0828-T2.nii.gz", "IXI002-Guys-0828"),
        ("100307/T1w/T1w_acpc_dc_restore.nii.gz", "100307"),
        ("100307/unprocessed/3T/T1w_MPR1/100307_3T_T1w_MPR1.nii.gz", "100307"),
        ("100307_3T_T2w_SPC1.nii.gz", "100307"),
        ("HCA6002236_V1_MR/unprocessed/T1w_MPR/HCA6002236_V1_MR_T1w_MPR.nii.gz", "HCA6002236"),
        ("sub-01_ses-2_T1w.nii.gz", "sub-01"),
        ("sub-01/ses-2/anat/sub-01_ses-2_acq-x_T1w.nii.gz", "sub-01"),
        ("patient01/study1_T1.nii", "patient01"),
        ("patient01/study2/series3_T2.nii", "patient01"),
        ("Patient-001/week-000-1/T1.nii.gz", "Patient-001"),
        ("Subject_12_visit2_T1.nii", "Subject_12"),
        ("anna_20240131_T1.nii", "anna"),
        ("anna_2024-01-31_follow-up_flair_brain.nii", "anna"),
        ("baseline/anna_T1.nii", "anna"),
        ("01/T1.nii", "01"),
        ("anna.nii", "anna"),
        ("T1.nii", "data"),
    ],
)
def test_layouts(name: str, subject: str) -> None:
    assert guess(name, "other_person_T2.nii")[0] == subject


def test_folders_above_the_data_do_not_count() -> None:
    for base in ("store/sub-99/patient07/scans", "002_S_0413/copies"):
        assert guess("anna_T1.nii", "bert_T1.nii", base=base) == ["anna", "bert"]
        assert guess("T1/anna.nii", "T2/anna.nii", base=base) == ["anna", "anna"]


def test_a_name_that_stands_in_several_folders_is_nobodys() -> None:
    """`head1` lies in two folders: so the folders are the people, for `head2` beside it, too."""
    assert guess("anna/head1.nii", "anna/head2.nii", "bert/head1.nii") == ["anna", "anna", "bert"]
    assert guess("deep/er/c.nrrd", "deep/d-FLAIR.mha") == ["c", "d"]


def test_scans_outside_the_list_s_folder() -> None:
    paths = [Path("/scans/anna/T1.nii"), Path("/scans/bert/T1.nii")]
    assert [one.name for one in guess_subjects(paths, Path("/lists"))] == ["anna", "bert"]


def test_a_pattern_says_it() -> None:
    names = ("siteA/x_007_1.nii", "siteA/x_007_2.nii", "siteB/y_8.nii")
    assert guess(*names, pattern=r"_(\d+)") == ["007", "007", "8"]
    assert guess(*names, pattern=r"^(site[A-Z])/") == ["siteA", "siteA", "siteB"]
    *_, lost = guess_subjects([Path("data", name) for name in names], Path("data"), r"x_(\d+)")
    assert lost.name == "" and "finds no subject in 'siteB/y_8'" in lost.problem
    for bad, words in (("(", "not a regular expression"), (r"\d+", "has 0 groups"), ("(a)(b)", "has 2 groups")):
        with pytest.raises(JobError, match=words):
            guess(*names, pattern=bad)
