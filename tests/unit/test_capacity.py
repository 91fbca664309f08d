"""The table of what a large matrix needs is computed from measured figures, and is the one in the page."""

from __future__ import annotations

import json

import pytest
from bench.capacity import FIGURES, PAGE, RATE, need, table, with_table

EXACT = {
    "efficiency_of_two_workers": 0.9,
    "what_two_runs_apart_reach": 0.9,
    "cpu_a_package_cell": 3.6,
    "cpu_to_boot_and_freeze": 64.0,
    "kernel_download": RATE / 1e6,
    "kernel_on_disk": 100.0,
    "frozen_on_disk": 50.0,
    "scheduler_cpu_a_cell": 0.001,
}


def test_one_computer_needs_all_of_it() -> None:
    found = need(EXACT, 1, 64)
    assert found.cells == pytest.approx(100_000 * 3.6 / 64)
    assert found.kernels == pytest.approx(1000 * 64 / 64 + 1000)
    assert found.disk == pytest.approx(150e9)


def test_many_computers_share_cells_and_not_kernels() -> None:
    assert need(EXACT, 10, 64).cells == pytest.approx(need(EXACT, 1, 64).cells / 10)
    assert need(EXACT, 100, 64).kernels == need(EXACT, 1, 64).kernels
    assert need(EXACT, 1000, 64).kernels == pytest.approx(need(EXACT, 1, 64).kernels / 10)


def test_workers_that_hinder_each_other_take_longer() -> None:
    slower = {**EXACT, "efficiency_of_two_workers": 0.45}
    assert need(slower, 1, 2).cells == pytest.approx(2 * need(EXACT, 1, 2).cells)


def test_the_scheduler_is_a_bound() -> None:
    assert need(EXACT, 1000, 64).cells == pytest.approx(100_000 * 0.001)


def test_the_table_has_a_row_a_size() -> None:
    text = table({"date": "2026-01-01", "computer": "2 cores", "load": 0.5, "figures": EXACT})
    assert "| 1 | 64 | 94 min | 33 min | 2.1 h | 150 GB |" in text.splitlines()


def test_the_page_has_the_table_of_the_figures_in_the_repository() -> None:
    page = PAGE.read_text()
    assert with_table(page, json.loads(FIGURES.read_text())) == page
