// The scan once more, in vectors of 8 channels: for sequences of so few channels that there would be vectors of 16 for some of
// the threads only.
#define NARROW

#include "scan.h"

extern "C" {

void scan_forward_narrow(const Scan* s, float* y) { run_forward(*s, y); }
void scan_backward_narrow(const Scan* s, const Gradients* g) { run_backward(*s, *g); }

}  // extern "C"
