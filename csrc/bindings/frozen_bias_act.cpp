// fastgan._C's functions of frozen_bias_act: csrc/frozen_bias_act.h over addresses.

#include "frozen_bias_act.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_frozen_bias_act(py::module_& module) {
  module.def(
      "bias_act_with_mask",
      [](Address x, Address b, Address y, Address bits, const BiasActArgs& args) {
        check(FASTGAN_CPU(bias_act_with_mask)(at(x), at(b), at(y), (uint8_t*)at(bits), args));
      },
      release_gil());
  module.def(
      "frozen_bias_act",
      [](Address u, Address b, Address s, Address bits, Address y, int64_t samples, bool constant,
         const BiasActArgs& args) {
        check(FASTGAN_CPU(frozen_bias_act)(at(u), at(b), at(s), (const uint8_t*)at(bits), at(y), samples,
                                           constant, args));
      },
      release_gil());
  module.def(
      "frozen_bias_act_grad",
      [](Address dy, Address s, Address bits, Address du, Address db, int64_t samples,
         const BiasActArgs& args) {
        check(FASTGAN_CPU(frozen_bias_act_grad)(at(dy), at(s), (const uint8_t*)at(bits), at(du), at(db),
                                                samples, args));
      },
      release_gil());
}
