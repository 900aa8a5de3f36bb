package oauth

// organizationOf is what the compatible token profile says of a member's
// organization: the claim that the published SDKs read. Without one it is
// absent.
type organizationOf struct {
	Organization *compatibleOrganization `json:"https://stytch.com/organization,omitempty"`
}

type compatibleOrganization struct {
	ID   string `json:"organization_id"`
	Slug string `json:"slug"`
}
