// The scan in vectors of 8 channels, for sequences with so few channels that there are fewer vectors of 16 than threads.
#define NARROW

#include "scan.h"

extern "C" {

void scan_forward_narrow(const Scan* s, float* y) { run_forward(*s, y); }
void scan_backward_narrow(const Scan* s, const Gradients* g) { run_backward(*s, *g); }

}  // extern "C"
