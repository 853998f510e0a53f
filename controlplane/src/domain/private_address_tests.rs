use super::*;

#[test]
fn only_the_public_internet_is_public() {
    let check = |host: &str, is_good: bool| {
        let host = HostName::parse(host).unwrap();
        assert_eq!(check_host(&host).is_ok(), is_good, "{host}");
    };
    for good in [
        "api.example.com",
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "169.253.0.1",
        "100.128.0.1",
        "[2606:4700::1111]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::808:808]",
        "mylocalhost.example",
    ] {
        check(good, true);
    }
    for bad in [
        "localhost",
        "api.localhost",
        "postgres",
        "metadata.google.internal",
        "printer.local",
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[2001:db8::1]",
        "[ff02::1]",
        "[::127.0.0.1]",
    ] {
        check(bad, false);
    }
}
