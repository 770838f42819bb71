from medssl.engine import Progress


def test_one_bar_counts_the_whole_run(make_trainer, capsys):
    make_trainer([Progress("tiny", interval=1)], max_epochs=2).run()
    shown = capsys.readouterr().err
    assert "tiny: 100%" in shown
    assert "6/6" in shown
    assert "loss=" in shown
