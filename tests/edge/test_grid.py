from edge.grid import Grid


def test_things_near_a_place_come_in_their_order() -> None:
    grid: Grid[str] = Grid(10)
    for name, x, y in (("far", 500, 0), ("a", -3, 4), ("b", 9, 9), ("c", 14, -8)):
        grid.add(name, x, y)
    assert grid.near(5, 5) == ["a", "b", "c"]
    assert grid.near(505, 3) == ["far"]
    assert grid.near(-300, 0) == []
    assert len(grid) == 4
