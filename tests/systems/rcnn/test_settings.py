import dataclasses

from vision_jax.systems import rcnn


def test_profile_names_settings():
  names = {field.name for field in dataclasses.fields(rcnn.Settings)}
  assert set(rcnn.DETECTRON2) <= names
  default = rcnn.Settings()
  for name, value in rcnn.DETECTRON2.items():
    assert value != getattr(default, name), name


def test_every_setting_is_described():
  for field in dataclasses.fields(rcnn.Settings):
    assert f"    {field.name}: " in rcnn.Settings.__doc__
