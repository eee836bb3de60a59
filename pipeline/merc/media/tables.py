"""The media tables: the result of decoding one utterance. Written once, read by every encoder.

One folder, ``part-NNNNN.parquet`` split at dialogue boundaries, rows in manifest order.
"""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("dialogue_id", pa.string(), nullable=False),
        # Audio: 16 kHz mono FLAC; empty if there is none.
        pa.field("audio", pa.large_binary(), nullable=False),
        pa.field("audio_status", pa.string(), nullable=False),  # "ok", or why there is none (a key of failures.REASONS)
        pa.field("audio_channels", pa.int16(), nullable=False),  # of the source; 0 if none
        pa.field(
            "audio_channel_used", pa.string(), nullable=False
        ),  # channel names with their weights, "FC*1+FL*0.7071+…"
        pa.field("sample_rate_source", pa.int32(), nullable=False),  # Hz; 0 if none
        pa.field(
            "audio_track_used", pa.string(), nullable=False
        ),  # of several audio tracks, "1 (eng) of 3", from 0; empty if the file has only one
        pa.field("duration_seconds", pa.float64(), nullable=False),  # of the decoded audio, else of the frames
        pa.field("truncated", pa.bool_(), nullable=False),  # longer than the cap, the rest was cut
        # Faces: square crops of one person, aligned if the eyes are known.
        pa.field(
            "faces", pa.list_(pa.field("element", pa.binary(), nullable=False)), nullable=False
        ),  # JPEG, in time order
        pa.field(
            "face_seconds", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False
        ),  # from the utterance's start
        pa.field(
            "face_scores", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False
        ),  # detector's confidence, 0 to 1
        pa.field("visual_status", pa.string(), nullable=False),
        pa.field("video_track_used", pa.string(), nullable=False),  # of several video tracks, likewise
        pa.field("frames_seen", pa.int32(), nullable=False),  # frames the detector looked at
        pa.field("faces_seen", pa.int32(), nullable=False),  # detections over all of them
        pa.field("face_tracks", pa.int32(), nullable=False),  # people they were linked to
        pa.field("face_track", pa.int32(), nullable=False),  # the chosen one, by ``choice`` of the settings; -1 if none
        pa.field("face_coverage", pa.float32(), nullable=False),  # frames with the chosen face over frames seen
        pa.field("face_choice_score", pa.float32(), nullable=False),  # of the choice, 0 to 1; 0 if none
        # How far the runner-up is behind, in units of the score (a logit with ``active_speaker``); null if there is no
        # other person.
        pa.field("face_choice_margin", pa.float32()),
        # Null unless ``active_speaker`` judged a face.
        pa.field(
            "speaking_logit", pa.float32()
        ),  # mean logit of the chosen person over the frames that show it; above 0: it speaks
        pa.field("speaking_share", pa.float32()),  # share of the utterance's time in which its logit is above 0
        pa.field("runner_up_logit", pa.float32()),  # mean logit of the next person; null if there is none
        pa.field("off_screen", pa.bool_()),  # no mouth matches the audio
        pa.field("shots", pa.int32(), nullable=False),  # 0 if cuts were not searched for
    ]
)
