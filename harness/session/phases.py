"""The phases of a worker's life, in their order, in words."""

WORDS = {  # while it lasts
    "start": "starting the engine's interpreter",
    "import": "importing the engine",
    "load": "loading the model",
    "warmup": "warming up",
    "measure": "measuring",
    "close": "closing the engine",
}
DONE = {  # once it is over
    "start": "interpreter started",
    "import": "engine imported",
    "load": "model loaded",
    "warmup": "warmed up",
    "measure": "measured",
    "close": "engine closed",
}
EMPTYING = "finishing the requests that the window cut"  # before the next window of the same engine
