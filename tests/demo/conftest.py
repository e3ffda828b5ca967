import sys
from pathlib import Path

# For fake_segmentor, which the tests of mmvis_plugin.apis share.
sys.path.insert(0, str(Path(__file__).parents[1] / "apis"))
