import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# For fake_segmentor, which the tests of mmvis_plugin.apis share, and the page's two modules.
sys.path[:0] = [str(HERE.parent / "apis"), str(HERE.parents[1] / "demo")]
