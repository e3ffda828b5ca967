import sys
from pathlib import Path

# pytest's importlib mode does not make a test's directory importable; its shared modules are here.
sys.path.insert(0, str(Path(__file__).parent))
