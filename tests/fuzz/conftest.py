import deeprftv2_plugin

deeprftv2_plugin.register()  # BasicSR can be imported from here on
