import deeprftv2_plugin

deeprftv2_plugin.register()  # patches BasicSR, so that the tests can import it
