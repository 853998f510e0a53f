use super::*;
use crate::domain::shapes::Scope;

#[test]
fn roles_may_what_they_are_for() {
    let check = |role: Role, area: Area, expected: (bool, bool)| {
        assert_eq!((role.may(area, false), role.may(area, true)), expected, "{role:?} {area:?}");
    };
    check(Role::Owner, Area::Account, (true, true));
    check(Role::Admin, Area::Account, (true, false));
    check(Role::Admin, Area::Members, (true, false));
    check(Role::Admin, Area::AdminKeys, (true, true));
    check(Role::Admin, Area::Tokens, (true, true));
    check(Role::Billing, Area::Subscriptions, (true, true));
    check(Role::Billing, Area::Plans, (true, true));
    check(Role::Billing, Area::Tokens, (true, false));
    check(Role::Billing, Area::Sites, (true, false));
    check(Role::Viewer, Area::Sites, (true, false));
    check(Role::Viewer, Area::Plans, (true, false));
}

#[test]
fn nobody_gives_more_than_they_have() {
    for (position, (_, role)) in Role::WORDS.iter().enumerate() {
        for (other_position, (_, other)) in Role::WORDS.iter().enumerate() {
            assert_eq!(role.may_give(*other), other_position >= position, "{role:?} {other:?}");
        }
        assert_eq!(Role::of(role.as_str()), *role);
    }
    assert_eq!(Role::of("root"), Role::Viewer);
}

#[test]
fn scopes_only_take_away() {
    let check = |scopes: &[&str], area: Area, expected: (bool, bool)| {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let given = Some(scopes.as_slice());
        let found = (scopes_allow(given, area, false), scopes_allow(given, area, true));
        assert_eq!(found, expected, "{scopes:?} {area:?}");
    };
    assert!(scopes_allow(None, Area::Sites, true));
    check(&[], Area::Sites, (false, false));
    check(&["sites:read"], Area::Sites, (true, false));
    check(&["sites:write"], Area::Sites, (true, true));
    check(&["plans:write", "tokens:read"], Area::Sites, (false, false));
    let described = serde_json::to_value(<Scope as utoipa::PartialSchema>::schema()).unwrap();
    let areas: Vec<&str> = Area::WORDS.iter().map(|(word, _)| *word).collect();
    assert_eq!(described["pattern"], format!("^({}):(read|write)$", areas.join("|")));
    for good in ["sites:read", "admin_keys:write"] {
        assert_eq!(check_scope(good), Ok(()));
    }
    for bad in ["", "sites", "sites:", "sites:admin", "everything:read", ":read"] {
        assert!(check_scope(bad).unwrap_err().contains("admin_keys"), "{bad}");
    }
}
