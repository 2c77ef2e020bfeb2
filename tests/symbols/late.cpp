// SPDX-License-Identifier: MIT
// A library that is loaded late; with line numbers of DWARF 4.
extern "C" int late_work(int value)
{
  return value + 17;  // line 5
}
