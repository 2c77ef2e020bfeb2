# SPDX-License-Identifier: MIT
# Run by 'cmake --install', when the prefix is known: the unit, with the paths of that prefix, and its configuration, which
# for /usr is in /etc.
set(deploy ${CMAKE_CURRENT_LIST_DIR})
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set(etc /etc)
else()
  set(etc ${CMAKE_INSTALL_PREFIX}/etc)
endif()
if(NOT EXISTS "$ENV{DESTDIR}${etc}/laggard/laggard.toml")  # or somebody's changes were lost
  file(INSTALL ${deploy}/systemd/laggard.toml DESTINATION ${etc}/laggard)
endif()

file(READ ${deploy}/systemd/laggard.service unit)
string(REPLACE "=/usr/bin/" "=${CMAKE_INSTALL_PREFIX}/bin/" unit "${unit}")
string(REPLACE " /etc/laggard/" " ${etc}/laggard/" unit "${unit}")
set(units "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/lib/systemd/system")
file(WRITE "${units}/laggard.service" "${unit}")
file(CHMOD "${units}/laggard.service" PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${CMAKE_INSTALL_PREFIX}/lib/systemd/system/laggard.service")
message(STATUS "Installing: ${units}/laggard.service")
