"""Fill BasicSR's registries, from which the keys of classes are read."""

import deeprftv2_plugin

deeprftv2_plugin.register()
