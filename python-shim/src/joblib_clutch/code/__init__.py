"""Modules that live only at the driver, and how they reach the workers.

`places` tells what is installed, `finding` which modules are not, `explicit` what the
user named, `folder` which files that are, `archive` makes one of them, `shipment` is
what one call ships, `delivery` what one session has got, `missing` what to do about a
module that a worker lacks.
"""
