"""An image's facts on a machine: whose facts count, and whose gaps."""

from envlock.manifest.place import put_on
from envlock.manifest.read import loads


def test_the_machine_brings_its_host_driver_and_gpus_and_what_it_could_not_see_of_them():
    image = loads(
        'schema = "envlock/1"\n[capture]\nsource = "image"\n[capture.unobserved]\n"driver.compat" = "i1"\ngpu = "i2"\n'
        '"package.pip" = "i3"\n[host]\narch = "aarch64"\n[driver]\nversion = "1"\n[[gpu]]\nname = "one"\n[os]\nid = "debian"\n'
    )
    machine = loads(
        'schema = "envlock/1"\n[capture]\nsource = "live"\n[capture.unobserved]\n"host.iommu" = "m1"\nos = "m2"\n'
        '"package.pip.numpy" = "m3"\n[host]\narch = "x86_64"\n[driver]\nversion = "2"\n[[gpu]]\nname = "two"\n'
        '[os]\nid = "rocky"\n'
    )
    there = put_on(image, machine)
    assert (there.capture.source, there.os.id) == ("image", "debian")
    assert (there.host.arch, there.driver.version, there.gpu[0].name) == ("x86_64", "2", "two")
    assert there.capture.unobserved == {"package.pip": "i3", "host.iommu": "m1"}
