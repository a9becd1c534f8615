"""The instrument: finds, names and counts leukocytes, and tells the laboratory."""

import os

# What is wrong with a picture or a film is told in our words: OpenCV and FFmpeg are not to add theirs.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
