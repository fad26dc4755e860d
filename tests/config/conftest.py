"""Fill BasicSR's registries, which tell the keys of classes."""

import deeprftv2_plugin

deeprftv2_plugin.register()
